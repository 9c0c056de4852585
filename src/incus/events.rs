//! One event stream per client, for all who want to be woken by it.
//!
//! Events are not replayed and may be lost: they wake, a slow poll insures. On [`Notice::Connected`] look once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use super::client::Client;

/// The server pings every 10 s: a stream this silent is dead.
const SILENCE: Duration = Duration::from_secs(35);
/// First and longest pause before a new connection.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Notices that a slow subscriber may lag behind.
const BACKLOG: usize = 256;

/// One event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// `lifecycle` or `operation`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The project it happened in.
    #[serde(default)]
    pub project: String,
    /// The member of a cluster it happened on.
    #[serde(default)]
    pub location: String,
    /// Of a lifecycle event: `action`, `source`, `name`; of an operation: the operation.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

impl Event {
    /// `instance-started`, `instance-agent-started` ...; empty for an operation.
    pub fn action(&self) -> &str {
        self.metadata["action"].as_str().unwrap_or_default()
    }

    /// Whether it is about this instance.
    pub fn is_about_instance(&self, project: &str, name: &str) -> bool {
        let source = self.metadata["source"].as_str().unwrap_or_default();
        let path = source.split('?').next().unwrap_or_default();
        self.project == project && path.strip_prefix("/1.0/instances/") == Some(name)
    }
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// From now on events arrive: look once.
    Connected,
    /// Events were lost, or none arrive until the next `Connected`.
    Lost,
    /// Something happened.
    Event(Arc<Event>),
}

#[derive(Default)]
struct State {
    subscribers: usize,
    connected: bool,
    stream: Option<(broadcast::Sender<Notice>, CancellationToken)>,
}

/// The stream of one client and its subscribers.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
}

#[cfg(test)]
impl Hub {
    /// A subscription to a stream that says what the caller makes it say.
    pub(crate) fn scripted(&self) -> Subscription {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.subscribers += 1;
        let (sender, _) = state.stream.get_or_insert_with(|| (broadcast::channel(BACKLOG).0, CancellationToken::new()));
        Subscription { hub: self.clone(), receiver: sender.subscribe(), connected: false }
    }

    pub(crate) fn say(&self, notice: Notice) {
        self.tell(notice, &CancellationToken::new());
    }
}

/// A share of the event stream, which ends with the last one.
pub struct Subscription {
    hub: Hub,
    receiver: broadcast::Receiver<Notice>,
    connected: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    /// The next notice. Cancel-safe.
    pub async fn next(&mut self) -> Notice {
        if std::mem::take(&mut self.connected) {
            return Notice::Connected;
        }
        match self.receiver.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => Notice::Lost,
            // The sender lives in the hub for as long as a subscription does.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.subscribers = state.subscribers.saturating_sub(1);
        if state.subscribers == 0 {
            state.connected = false;
            if let Some((_, end)) = state.stream.take() {
                end.cancel();
            }
        }
    }
}

impl Hub {
    /// Tells all subscribers, unless the stream that speaks was ended.
    fn tell(&self, notice: Notice, end: &CancellationToken) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_cancelled() {
            return;
        }
        match notice {
            Notice::Connected => state.connected = true,
            Notice::Lost => state.connected = false,
            Notice::Event(_) => {}
        }
        if let Some((sender, _)) = &state.stream {
            // Without a receiver there is nobody to tell.
            let _ = sender.send(notice);
        }
    }
}

impl Client {
    /// Subscribes to the lifecycle events of all projects. Must be called in a Tokio runtime.
    ///
    /// The first subscription connects the stream, which is connected again with backoff whenever it breaks.
    pub fn events(&self) -> Subscription {
        let hub = self.hub().clone();
        let mut state = hub.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.subscribers += 1;
        let receiver = match &state.stream {
            Some((sender, _)) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(BACKLOG);
                let end = CancellationToken::new();
                state.stream = Some((sender, end.clone()));
                tokio::spawn(follow(self.clone(), end));
                receiver
            }
        };
        let connected = state.connected;
        drop(state);
        Subscription { hub, receiver, connected }
    }
}

/// Keeps the stream connected until `end`.
async fn follow(client: Client, end: CancellationToken) {
    let mut pause = PAUSE.0;
    loop {
        let mut heard = false;
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            reason = stream(&client, &end, &mut heard) => tracing::debug!(reason, "event stream lost"),
        }
        client.hub().tell(Notice::Lost, &end);
        pause = if heard { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One connection from beginning to end; why it ended.
async fn stream(client: &Client, end: &CancellationToken, heard: &mut bool) -> String {
    let stream = match client.connector().connect().await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let host = client.endpoint().host();
    let url = format!("ws://{host}/1.0/events?type=lifecycle&all-projects=true");
    let config = tungstenite::protocol::WebSocketConfig::default();
    let connecting = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
    let mut socket = match tokio::time::timeout(SILENCE, connecting).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer".to_owned(),
    };
    *heard = true;
    client.hub().tell(Notice::Connected, end);
    loop {
        match tokio::time::timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => tell(client, end, text.as_bytes()),
            Ok(Some(Ok(Message::Binary(bytes)))) => tell(client, end, &bytes),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "closed".to_owned(),
            Err(_) => return "silent".to_owned(),
        }
    }
}

fn tell(client: &Client, end: &CancellationToken, json: &[u8]) {
    match serde_json::from_slice(json) {
        Ok(event) => client.hub().tell(Notice::Event(Arc::new(event)), end),
        Err(error) => tracing::debug!(%error, "an event that cannot be understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_knows_its_instance() {
        let event: Event = serde_json::from_str(
            r#"{"type":"lifecycle","project":"p","metadata":{"action":"instance-started","source":"/1.0/instances/a?project=p"}}"#,
        )
        .unwrap();
        assert_eq!(event.action(), "instance-started");
        assert!(event.is_about_instance("p", "a"));
        assert!(!event.is_about_instance("p", "ab"));
        assert!(!event.is_about_instance("q", "a"));
    }
}
