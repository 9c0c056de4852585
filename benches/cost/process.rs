//! The provider as a process: how soon it shakes hands, what it holds, how large it is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Fault;

const MAGIC: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");
const STARTS: usize = 20;

/// From exec to the handshake line, and the resident bytes at that time: medians of twenty.
pub(crate) fn handshake(provider: &Path) -> Result<(Duration, u64), Fault> {
    let key = rcgen::KeyPair::generate()?;
    let core = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?.pem();
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut command = Command::new(provider);
        command.env(MAGIC.0, MAGIC.1).env("PLUGIN_CLIENT_CERT", &core).env("PLUGIN_PROTOCOL_VERSIONS", "6");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line)).transpose();
        times.push(start.elapsed());
        let size = resident(child.id(), "VmRSS:");
        // SIGTERM lets it remove its socket.
        let ended = Command::new("kill").arg(child.id().to_string()).status();
        if !ended.is_ok_and(|status| status.success()) {
            child.kill()?;
        }
        child.wait()?;
        read?;
        if !line.starts_with("1|6|unix|") {
            return Err(format!("no handshake line but {line:?}").into());
        }
        sizes.push(size.ok_or("the provider has gone at its handshake")?);
    }
    times.sort_unstable();
    sizes.sort_unstable();
    Ok((times[STARTS / 2], sizes[STARTS / 2]))
}

/// A line of `/proc/<pid>/status`, in bytes.
fn resident(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    value.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Looks at every process of one executable until it is asked for the largest that it has seen.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(provider: PathBuf) -> Self {
        let (peak, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&peak), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for pid in processes(&provider) {
                    seen.fetch_max(resident(pid, "VmHWM:").unwrap_or(0), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self { peak, end, thread }
    }

    /// The peak, in bytes.
    pub(crate) fn end(self) -> Result<u64, Fault> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watch has panicked")?;
        match self.peak.load(Ordering::Relaxed) {
            0 => Err("no process of the provider was seen".into()),
            peak => Ok(peak),
        }
    }
}

fn processes(executable: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == executable));
    ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
