//! What a wait asks of an instance.

use std::future::Future;
use std::time::Duration;

use crate::incus::client::Client;
use crate::incus::error::{Error, Refusal};
use crate::incus::events::Event;
use crate::incus::instance::{self, Instance, Output, State};
use crate::incus::run::Wait;

/// How long the console may take, when all is lost already.
const CONSOLE: Duration = Duration::from_secs(5);
/// So many of its last lines are shown.
const LINES: usize = 12;
/// The longest line that is shown, in characters.
const WIDTH: usize = 160;
/// How long one `exec` of `true` may take.
const PROBE: Duration = Duration::from_secs(5);

/// Which events are about an instance.
pub(super) trait About: Send + Sync {
    fn concerns(&self, event: &Event) -> bool;
}

/// An instance that is asked.
pub(super) trait Guest: Send + Sync {
    fn instance(&self) -> impl Future<Output = Result<Instance, Error>> + Send;
    fn state(&self) -> impl Future<Output = Result<State, Error>> + Send;
    /// Whether a command can be run inside.
    fn answers(&self) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Exit code of `cloud-init status --wait`; `None` where the agent went down meanwhile.
    fn cloud_init(&self) -> impl Future<Output = Result<Option<i64>, Error>> + Send;
    /// The console's last lines; none where they cannot be had.
    fn console(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// An instance on a server.
pub(super) struct Remote<'c> {
    client: &'c Client,
    project: &'c str,
    name: &'c str,
}

impl<'c> Remote<'c> {
    pub(super) fn new(client: &'c Client, project: &'c str, name: &'c str) -> Self {
        Self { client, project, name }
    }

    /// Exit code of a command; `None` where the instance or its agent cannot run one now.
    async fn exec(&self, command: &[&str], output: Output, wait: &Wait) -> Result<Option<i64>, Error> {
        let request = instance::exec(self.project, self.name, command, output);
        match self.client.run(request, wait).await {
            Ok(metadata) => {
                let metadata = metadata.unwrap_or_default();
                self.delete_outputs(&metadata["output"]).await;
                Ok(metadata["return"].as_i64())
            }
            Err(error) if matches!(error.refusal(), Some(Refusal::CommandNotFound)) => Ok(Some(127)),
            Err(error) if error.is_not_found() || error.is_forbidden() => Err(error),
            Err(error) if error.refusal().is_some() || error.is_operation_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete_outputs(&self, paths: &serde_json::Value) {
        let paths = paths.as_object().into_iter().flat_map(|paths| paths.values()).filter_map(|path| path.as_str());
        for file in paths.filter_map(|path| path.rsplit('/').next()) {
            let request = instance::delete_output(self.project, self.name, file);
            if let Err(error) = self.client.run(request, &Wait::within(PROBE, Default::default())).await {
                tracing::debug!(instance = self.name, file, %error, "what a command wrote was not deleted");
            }
        }
    }
}

impl About for Remote<'_> {
    fn concerns(&self, event: &Event) -> bool {
        event.is_about_instance(self.project, self.name)
    }
}

impl Guest for Remote<'_> {
    async fn instance(&self) -> Result<Instance, Error> {
        Ok(self.client.get(instance::get(self.project, self.name)).await?.value)
    }

    async fn state(&self) -> Result<State, Error> {
        Ok(self.client.get(instance::state(self.project, self.name)).await?.value)
    }

    async fn answers(&self) -> Result<bool, Error> {
        let brief = Wait::within(PROBE, Default::default());
        match self.exec(&["true"], Output::Lost, &brief).await {
            Ok(code) => Ok(code.is_some()),
            Err(error) if error.is_deadline() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn cloud_init(&self) -> Result<Option<i64>, Error> {
        self.exec(&["cloud-init", "status", "--wait"], Output::Kept, &Wait::default()).await
    }

    async fn console(&self) -> Vec<String> {
        let log = self.client.text(instance::console_log(self.project, self.name));
        match tokio::time::timeout(CONSOLE, log).await {
            Ok(Ok(text)) => last_lines(&text),
            _ => Vec::new(),
        }
    }
}

/// The last lines that say something, without control characters.
fn last_lines(text: &str) -> Vec<String> {
    let clean = |line: &str| -> String { plain(line).chars().take(WIDTH).collect::<String>().trim_end().to_owned() };
    let mut lines: Vec<String> =
        text.split(['\n', '\r']).rev().map(clean).filter(|line| !line.trim().is_empty()).take(LINES).collect();
    lines.reverse();
    lines
}

/// Drops terminal escapes (ECMA-48: ESC, a bracket, up to a letter) and other control characters.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next_if(|next| !next.is_ascii_alphabetic() && *next != '~').is_some() {}
            }
            characters.next();
        } else if !character.is_control() {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consoles_last_lines_are_plain_text() {
        let text = format!("{}\u{1b}[2J\u{1b}[01;01HBdsDxe: failed\r\n\r\n\u{1b}[0mPanic\u{7}!\n", "old\n".repeat(40));
        let lines = last_lines(&text);
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[LINES - 2..], ["BdsDxe: failed", "Panic!"]);
    }

    #[test]
    fn an_empty_console_has_no_lines() {
        assert!(last_lines("\r\n \n").is_empty());
    }
}
