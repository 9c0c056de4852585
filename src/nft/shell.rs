//! One shell on the nft host, over which everything is asked: local or through OpenSSH, the same words.
//!
//! The command line is a constant. What varies (a script, a path) goes in as lines on its input, ended by a line with a
//! dot; a script is handed to nft only when the dot was seen, so a connection that breaks in the middle changes
//! nothing. The lock is the shell's: it ends with it, or with the nft that it still runs.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::error::{self, Error};
use super::place::{Destination, Sudo, Via};

/// Free of `'` and `!` and on one line, for any login shell. Answers are lines behind `|`, ended by `=` and a code.
const SCRIPT: &str = concat!(
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; LC_ALL=C; export PATH LC_ALL; umask 077; f=/run/anklume-nft; ",
    "say() { printf \"%s\\n\" \"$out\" | sed \"s/^/|/\"; printf \"=%s\\n\" \"$rc\"; }; ",
    "body() { while IFS= read -r line; do if [ \"$line\" = . ]; then return 0; fi; printf \"%s\\n\" \"$line\"; done; return 1; }; ",
    "printf \"%s\\n\" =anklume-nft; ",
    "while read -r verb; do out=; rc=0; case $verb in ",
    "interfaces) out=$(ip -o link 2>&1); rc=$?;; ",
    "version) out=$(nft --version 2>&1); rc=$?;; ",
    "lock) out=$( { : >>$f.lock; } 2>&1 ); rc=$?; if [ $rc -gt 0 ]; then rc=77; else exec 9>>$f.lock; flock -n 9; rc=$?; fi;; ",
    "list) out=$(nft -j list table inet anklume 2>&1); rc=$?;; ",
    "terse) out=$(nft -t list table inet anklume 2>&1); rc=$?;; ",
    "load) if out=$(body); then :; else exit 1; fi; ",
    "out=$( { printf \"%s\\n\" \"$out\" >$f.script && nft -c -f $f.script && nft -f $f.script; } 2>&1 ); rc=$?; rm -f $f.script;; ",
    "delete) out=$(nft delete table inet anklume 2>&1); rc=$?;; ",
    "file) IFS= read -r path; if [ -f \"$path\" ]; then ",
    "out=$( { stat -L -c \"%a %u %s\" \"$path\" && head -c 16777216 \"$path\"; } 2>&1 ); rc=$?; ",
    "elif [ -e \"$path\" ]; then out=\"is no regular file\"; rc=1; else rc=44; fi;; ",
    "room) IFS= read -r path; rc=1; if [ -d \"$path\" ]; then out=\"is a directory\"; elif [ -w \"${path%/*}/\" ]; then rc=0; ",
    "elif [ -d \"${path%/*}/\" ]; then out=\"the directory cannot be written\"; else out=\"no such directory\"; fi;; ",
    "store) IFS= read -r path; if out=$(body); then :; else exit 1; fi; ",
    "if [ -d \"$path\" ]; then out=\"is a directory\"; rc=1; else ",
    "out=$( { new=$(mktemp \"$path.XXXXXX\") && { printf \"%s\\n\" \"$out\" >\"$new\" && sync \"$new\" ",
    "&& mv -f \"$new\" \"$path\" && sync \"${path%/*}/\" || { rm -f \"$new\"; false; }; }; } 2>&1 ); rc=$?; fi;; ",
    "unlink) IFS= read -r path; out=$( { rm -f \"$path\" && sync \"${path%/*}/\"; } 2>&1 ); rc=$?;; ",
    "*) rc=99;; esac; say; done",
);

/// The first line of the script: what comes before is a greeting of the login shell.
const BEGIN: &str = "=anklume-nft";

/// How long the end of a child is waited for.
const END: Duration = Duration::from_secs(2);

/// An answer: what was printed, and the code of the command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) text: String,
}

/// A shell that runs; it dies when this is dropped.
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    said: JoinHandle<String>,
    destination: Option<Destination>,
}

impl Shell {
    pub(super) async fn open(via: &Via, sudo: Sudo, path: Option<&OsStr>) -> Result<Self, Error> {
        let (mut command, program) = command(via, sudo);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("LC_ALL", "C")
            // Ctrl-C in a terminal goes to its whole process group; when to stop is decided here.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => Error::NoProgram { program },
            _ => Error::Ended { said: format!("{program}: {cause}"), may_have_been_applied: false },
        })?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::Ended { said: program.to_owned(), may_have_been_applied: false });
        };
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = errors.take(65536).read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let destination = match via {
            Via::Local => None,
            Via::Ssh(destination) => Some(destination.clone()),
        };
        let mut shell = Self { child, input, output: BufReader::new(output), said, destination };
        while let Some(line) = shell.line().await {
            if line.trim_end() == BEGIN {
                return Ok(shell);
            }
        }
        let said = shell.last_words().await;
        Err(error::of_start(shell.destination.as_ref(), &said))
    }

    /// One verb of the script, with the lines that it takes.
    pub(super) async fn ask(&mut self, verb: &'static str, lines: &[&str]) -> Result<Answer, Error> {
        let mut request = format!("{verb}\n");
        for line in lines {
            request.push_str(line);
            if !line.ends_with('\n') {
                request.push('\n');
            }
        }
        let sent = async {
            self.input.write_all(request.as_bytes()).await?;
            self.input.flush().await
        };
        // Where the shell has ended, its last words say more than a broken pipe.
        let sent = sent.await.is_ok();
        match if sent { self.answer().await? } else { None } {
            Some(answer) => Ok(answer),
            None => Err(Error::Ended {
                said: self.last_words().await,
                may_have_been_applied: verb == "load" || verb == "delete",
            }),
        }
    }

    /// Ends the shell, and with it the lock.
    pub(super) async fn close(mut self) {
        drop(self.input);
        let _ = tokio::time::timeout(END, self.child.wait()).await;
    }

    /// `None` at the end of the output.
    async fn answer(&mut self) -> Result<Option<Answer>, Error> {
        let mut text = String::new();
        while let Some(line) = self.line().await {
            if let Some(rest) = line.strip_prefix('|') {
                text.push_str(rest);
            } else if let Some(code) = line.strip_prefix('=') {
                let code = code.trim().parse().map_err(|_| Error::Garbled { said: line.trim().to_owned() })?;
                return Ok(Some(Answer { code, text }));
            }
        }
        Ok(None)
    }

    /// `None` at the end of the output.
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let length = self.output.read_until(b'\n', &mut line).await.ok()?;
        (length > 0).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    async fn last_words(&mut self) -> String {
        let _ = tokio::time::timeout(END, self.child.wait()).await;
        match tokio::time::timeout(END, &mut self.said).await {
            Ok(Ok(said)) if !said.trim().is_empty() => said.trim().to_owned(),
            _ => "it said nothing".to_owned(),
        }
    }
}

fn command(via: &Via, sudo: Sudo) -> (Command, &'static str) {
    match (via, sudo) {
        (Via::Local, Sudo::Without) => {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT]);
            (command, "sh")
        }
        (Via::Local, Sudo::With) => {
            let mut command = Command::new("sudo");
            command.args(["-n", "--", "sh", "-c", SCRIPT]);
            (command, "sudo")
        }
        (Via::Ssh(destination), sudo) => {
            let mut command = Command::new("ssh");
            command.args(["-T", "-x"]);
            for option in [
                "BatchMode=yes",
                "StrictHostKeyChecking=yes",
                "ConnectTimeout=10",
                "ServerAliveInterval=5",
                "ServerAliveCountMax=3",
                "RemoteCommand=none",
                "ClearAllForwardings=yes",
                "EscapeChar=none",
            ] {
                command.args(["-o", option]);
            }
            let before = match sudo {
                Sudo::Without => "",
                Sudo::With => "sudo -n -- ",
            };
            command.args(["--", destination.as_str()]).arg(format!("{before}sh -c '{SCRIPT}'"));
            (command, "ssh")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_same_for_every_login_shell() {
        assert!(!SCRIPT.contains(['\'', '!', '\n']));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_never_used() {
        let mut shell = Shell::open(&Via::Local, Sudo::Without, None).await.unwrap();
        shell.input.write_all(b"load\ntable inet anklume\n").await.unwrap();
        drop(shell.input);
        assert!(!shell.child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_greeting_of_the_login_shell_is_no_answer() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sh");
        std::fs::write(&path, "#!/bin/sh\necho === welcome ===\necho =0\nexec /bin/sh \"$@\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let mut shell = Shell::open(&Via::Local, Sudo::Without, Some(path.as_ref())).await.unwrap();
        assert_eq!(shell.ask("nonsense", &[]).await.unwrap().code, 99);
        shell.close().await;
    }

    #[tokio::test]
    async fn answers_hold_any_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it's a \"file\" $(x)");
        let path = path.to_str().unwrap();
        let mut shell = Shell::open(&Via::Local, Sudo::Without, None).await.unwrap();
        assert_eq!(shell.ask("file", &[path]).await.unwrap().code, 44);
        let text = "=0\n|x\n\\n %s\n  . \n";
        assert_eq!(shell.ask("store", &[path, text, "."]).await.unwrap().code, 0);
        let answer = shell.ask("file", &[path]).await.unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!((answer.code, answer.text), (0, format!("600 {uid} {}\n{text}", text.len())));
        assert_eq!(shell.ask("unlink", &[path]).await.unwrap().code, 0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        shell.close().await;
    }
}
