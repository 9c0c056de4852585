//! A socket between the provider and Incus that passes requests on, or does not.

use std::io::{BufReader, Result, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, RwLockReadGuard, Weak};
use std::thread;
use std::time::Duration;

use crate::control::Control;
use crate::fault::{Fault, When};
use crate::http::{Message, Side};
use crate::lab::Lab;
use crate::step;
use crate::stranger::Place;

/// Listens at `socket`, before the daemon of `lab`, for as long as the process runs.
pub(crate) fn open(socket: &Path, lab: &Arc<Lab>, control: Arc<Control>) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let (incus, lab) = (lab.socket(), Arc::downgrade(lab));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (incus, control, lab) = (incus.clone(), Arc::clone(&control), Weak::clone(&lab));
            // A connection that breaks is what this is for.
            thread::spawn(move || serve(client, &incus, &control, &lab));
        }
    });
    Ok(())
}

/// What becomes of a connection after a request.
#[derive(PartialEq, Eq)]
enum Then {
    Next,
    Close,
}

fn serve(client: UnixStream, incus: &Path, control: &Control, lab: &Weak<Lab>) -> Result<()> {
    if control.is_away() {
        return Ok(());
    }
    control.provider(rustix::net::sockopt::socket_peercred(&client)?.pid);
    let mut requests = BufReader::new(client.try_clone()?);
    let mut upstream = Upstream { incus, open: None };
    while let Some(request) = Message::read(&mut requests, Side::Request)? {
        let gate = (!lasts(&request)).then(|| control.enter());
        control.watch(&request);
        let fault = control.meet(step::of(&request).as_deref());
        if control.is_away() {
            break;
        }
        let pair = Pair { client: &client, control, lab };
        if pair.pass(&request, &mut upstream, fault, gate)? == Then::Close {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    if let Some((server, _)) = upstream.open {
        let _ = server.shutdown(Shutdown::Both);
    }
    Ok(())
}

/// The connection to Incus, which is opened for the first request that is passed on: Incus accepts no other connection
/// while it waits for the first byte of one (6.0.4).
struct Upstream<'a> {
    incus: &'a Path,
    open: Option<(UnixStream, BufReader<UnixStream>)>,
}

impl Upstream<'_> {
    fn open(&mut self) -> Result<&mut (UnixStream, BufReader<UnixStream>)> {
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                let server = UnixStream::connect(self.incus)?;
                let answers = BufReader::new(server.try_clone()?);
                Ok(none.insert((server, answers)))
            }
        }
    }
}

/// Whether a request is answered only when something happens: it is not held back by the gate.
fn lasts(request: &Message) -> bool {
    let path = request.word(1).split('?').next().unwrap_or_default();
    ["/wait", "/events", "/websocket"].iter().any(|end| path.ends_with(end))
}

struct Pair<'a> {
    client: &'a UnixStream,
    control: &'a Control,
    lab: &'a Weak<Lab>,
}

impl Pair<'_> {
    /// Whether the daemon was to be killed now, and was.
    fn killed(&self, fault: Option<Fault>, now: When) -> bool {
        let is_now = matches!(fault, Some(Fault::Kill(when)) if when == now);
        if let Some(lab) = self.lab.upgrade().filter(|_| is_now) {
            lab.restart();
        }
        is_now
    }

    fn pass(
        &self,
        request: &Message,
        upstream: &mut Upstream<'_>,
        fault: Option<Fault>,
        gate: Option<RwLockReadGuard<'_, ()>>,
    ) -> Result<Then> {
        let mut client = self.client;
        match fault {
            Some(Fault::CutBefore) => return Ok(Then::Close),
            Some(Fault::CutRequest) => {
                upstream.open()?.0.write_all(request.half())?;
                return Ok(Then::Close);
            }
            Some(Fault::Busy) => {
                let body =
                    r#"{"type":"error","error":"Instance is busy running a \"start\" operation","error_code":500}"#;
                let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length";
                client.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes())?;
                return Ok(Then::Next);
            }
            Some(Fault::End(who, When::Before)) => {
                self.control.end(who);
                if who.cuts() {
                    return Ok(Then::Close);
                }
            }
            _ => {}
        }
        if self.killed(fault, When::Before) {
            return Ok(Then::Close);
        }
        let (server, answers) = upstream.open()?;
        server.write_all(&request.bytes)?;
        if self.killed(fault, When::Sent) {
            return Ok(Then::Close);
        }
        if let Some(Fault::End(who, When::Sent)) = fault {
            self.control.end(who);
            if who.cuts() {
                return Ok(Then::Close);
            }
        }
        let Some(answer) = Message::read(answers, Side::Answer)? else { return Ok(Then::Close) };
        match fault {
            Some(Fault::DropAnswer) => return Ok(Then::Close),
            Some(Fault::CutAnswer) => {
                client.write_all(answer.half())?;
                return Ok(Then::Close);
            }
            Some(Fault::Slow(ms)) => thread::sleep(Duration::from_millis(ms)),
            Some(Fault::Stranger(phase, roll)) => {
                drop(gate);
                self.control.intrude(phase, Place::Step, roll);
            }
            Some(Fault::End(who, When::Answered)) => {
                self.control.end(who);
                if who.cuts() {
                    return Ok(Then::Close);
                }
            }
            _ => {}
        }
        self.killed(fault, When::Answered);
        client.write_all(&answer.bytes)?;
        if answer.switches() {
            self.control.keep(self.client.try_clone()?);
            let (mut from, mut to) = (self.client.try_clone()?, server.try_clone()?);
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                to.shutdown(Shutdown::Both)
            });
            std::io::copy(answers, &mut client)?;
            return Ok(Then::Close);
        }
        Ok(Then::Next)
    }
}
