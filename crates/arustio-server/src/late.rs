//! What a service needs and what is there only later.
//!
//! gRPC is served from the first moment on, since servers that form a cluster have to hear
//! one another; what answers clients comes when the cluster is formed. Until then a client
//! is told what is waited for.

use std::sync::OnceLock;

use arustio_proto::failure::Failure;
use arustio_types::ErrorKind;
use parking_lot::Mutex;
use tokio::sync::watch;

/// A value that comes once, and what it waits for until then.
#[derive(Debug)]
pub(crate) struct Late<T> {
    value: OnceLock<T>,
    waiting: Mutex<String>,
    there: watch::Sender<bool>,
}

impl<T> Late<T> {
    pub(crate) fn new(waiting: &str) -> Self {
        Self {
            value: OnceLock::new(),
            waiting: Mutex::new(waiting.to_owned()),
            there: watch::Sender::new(false),
        }
    }

    /// The value has come. A second one is dropped.
    pub(crate) fn set(&self, value: T) {
        let _ = self.value.set(value);
        self.there.send_replace(true);
    }

    /// Waits for the value. Safe to drop.
    pub(crate) async fn come(&self) -> &T {
        let mut there = self.there.subscribe();
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            // The sender lives as long as this does.
            let _ = there.changed().await;
        }
    }

    /// Says what is waited for; returns whether that is news.
    pub(crate) fn wait_for(&self, what: &str) -> bool {
        let mut waiting = self.waiting.lock();
        let news = *waiting != what;
        if news {
            what.clone_into(&mut waiting);
        }
        news
    }

    /// What is waited for.
    pub(crate) fn waiting(&self) -> String {
        self.waiting.lock().clone()
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, or what to tell a client.
    pub(crate) fn there(&self) -> Result<&T, Failure> {
        let waiting = || {
            let message = format!(
                "this metadata server is not ready; it waits for {}. Ask another one, or repeat \
                 later",
                self.waiting()
            );
            Failure::new(ErrorKind::Unavailable, message).not_leader(None, None)
        };
        self.get().ok_or_else(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_early_is_told_what_is_waited_for() {
        let late = Late::new("its folder");
        assert!(late.wait_for("member 2") && !late.wait_for("member 2"));
        let failure = late.there().unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Unavailable);
        assert!(failure.message.contains("member 2"), "{failure}");
        late.set(7);
        assert_eq!(late.there().unwrap(), &7);
    }
}
