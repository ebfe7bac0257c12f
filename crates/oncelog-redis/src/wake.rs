//! Those who wait for keys in this process, and the subscription that wakes them.
//!
//! One connection more, for the namespace's channel. Scripts publish the name of a key there when
//! its lease ends, if somebody has said in its record that it is waited for. Messages may be lost,
//! and then whoever waits looks again by itself: a message is a hint and decides nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A key that is waited for, and by how many.
#[derive(Debug)]
struct Waited {
    notify: Arc<Notify>,
    count: usize,
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Board {
    waited: Mutex<HashMap<Vec<u8>, Waited>>,
    listening: AtomicBool,
}

/// A place on the board, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    board: Arc<Board>,
    name: Vec<u8>,
    pub(crate) notify: Arc<Notify>,
}

impl Board {
    fn waited(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Waited>> {
        // Nothing is left half done in it by a panic.
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait for the key of this name.
    pub(crate) fn place(self: &Arc<Self>, name: &[u8]) -> Place {
        let mut waited = self.waited();
        let fresh = || Waited { notify: Arc::default(), count: 0 };
        let entry = waited.entry(name.to_vec()).or_insert_with(fresh);
        entry.count += 1;
        let notify = entry.notify.clone();
        drop(waited);
        Place { board: self.clone(), name: name.to_vec(), notify }
    }

    /// True while messages come in.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    fn wake(&self, name: &[u8]) {
        if let Some(waited) = self.waited().get(name) {
            waited.notify.notify_waiters();
        }
    }

    /// Says whether messages come in from now on; everybody looks, as some may have been lost.
    fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
        self.waited().values().for_each(|waited| waited.notify.notify_waiters());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waited = self.board.waited();
        if let Some(entry) = waited.get_mut(&self.name) {
            entry.count -= 1;
            if entry.count == 0 {
                waited.remove(&self.name);
            }
        }
    }
}

/// The task that listens; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on the channel, at one of the servers after another until one answers.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub(crate) fn start(clients: Vec<Client>, channel: Vec<u8>, board: Arc<Board>) -> Self {
        Self { task: tokio::spawn(listen(clients, channel, board)) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(clients: Vec<Client>, channel: Vec<u8>, board: Arc<Board>) {
    let mut pause = RETRY_FIRST;
    loop {
        for client in &clients {
            let connected = timeout(CONNECT_MAX, client.get_async_pubsub()).await;
            let Ok(Ok(mut subscription)) = connected else { continue };
            let subscribed = timeout(CONNECT_MAX, subscription.subscribe(&channel)).await;
            if !matches!(subscribed, Ok(Ok(()))) {
                continue;
            }
            board.set_listening(true);
            pause = RETRY_FIRST;
            let mut messages = subscription.into_on_message();
            while let Some(message) = messages.next().await {
                board.wake(message.get_payload_bytes());
            }
            board.set_listening(false);
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::Board;
    use std::sync::Arc;

    #[test]
    fn a_place_is_forgotten_with_the_last_who_waits() {
        let board = Arc::new(Board::default());
        let (one, other) = (board.place(b"k"), board.place(b"k"));
        assert!(Arc::ptr_eq(&one.notify, &other.notify));
        drop(one);
        assert_eq!(board.waited().len(), 1);
        drop(other);
        assert_eq!(board.waited().len(), 0);
    }
}
