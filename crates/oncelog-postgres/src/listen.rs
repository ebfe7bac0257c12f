//! The one connection that listens for all who wait in this process.
//!
//! It is dialled when somebody waits for the first time, and again when it is lost; meanwhile they
//! look more often. What the server tells is a token, which stands for one key of one namespace.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use oncelog::{Fingerprint, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::dial::{Dial, Link};
use crate::trouble;

/// The pauses between two attempts to connect: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Hears what the server tells, and passes it on.
#[derive(Debug)]
pub(crate) struct Listener {
    dial: Dial,
    heard: Arc<Heard>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Heard {
    connected: AtomicBool,
    places: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// A place among those who wait for a key.
#[derive(Debug)]
pub(crate) struct Place {
    token: String,
    told: watch::Receiver<()>,
    heard: Arc<Heard>,
}

impl Listener {
    pub(crate) fn new(dial: Dial) -> Self {
        Self { dial, heard: Arc::default(), task: Mutex::default() }
    }

    /// A place among those who wait for the key; whoever is the first has the listener connect.
    pub(crate) fn place(&self, space: i32, key: &[u8]) -> Place {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (dial, heard) = (self.dial.clone(), Arc::downgrade(&self.heard));
            *task = Some(tokio::spawn(listen(dial, heard)));
        }
        drop(task);
        // One namespace's keys may look like another's; those who are woken look anyway.
        let token = Fingerprint::builder().update(&space.to_le_bytes()).update(key).finish();
        let token = format!("{:032x}", u128::from_le_bytes(*token.as_bytes()));
        let mut places = self.heard.places.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = places.entry(token.clone()).or_insert_with(|| watch::Sender::new(()));
        let told = sender.subscribe();
        drop(places);
        Place { token, told, heard: self.heard.clone() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Place {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.heard.connected.load(Ordering::Acquire)
    }

    /// Waits until something was told of the key since the last time.
    pub(crate) async fn told(&mut self) {
        if self.told.changed().await.is_err() {
            // Nobody tells any more; looking has to do.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.heard.places.lock().unwrap_or_else(PoisonError::into_inner);
        // This one is still among them.
        if places.get(&self.token).is_some_and(|sender| sender.receiver_count() <= 1) {
            places.remove(&self.token);
        }
    }
}

impl Heard {
    fn tell(&self, token: &str) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = places.get(token) {
            sender.send_replace(());
        }
    }

    /// Has everybody look: what was told while nobody listened is lost.
    fn tell_all(&self) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.values().for_each(|sender| {
            sender.send_replace(());
        });
    }
}

/// Connects and listens, again and again, until there is nobody to tell.
async fn listen(dial: Dial, heard: Weak<Heard>) {
    let mut pause = RETRY_MIN;
    while heard.strong_count() > 0 {
        if let Ok(mut link) = connect(&dial).await {
            pause = RETRY_MIN;
            if let Some(heard) = heard.upgrade() {
                heard.connected.store(true, Ordering::Release);
                heard.tell_all();
            }
            while let Some(token) = link.notices.recv().await {
                let Some(heard) = heard.upgrade() else { return };
                heard.tell(&token);
            }
            if let Some(heard) = heard.upgrade() {
                heard.connected.store(false, Ordering::Release);
                heard.tell_all();
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn connect(dial: &Dial) -> Result<Link> {
    let link = dial.link().await?;
    link.client.batch_execute("LISTEN oncelog").await.map_err(|error| trouble::refused(&error))?;
    Ok(link)
}
