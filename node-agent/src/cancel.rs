//! One way to end a piece of work early, and the only way to wait inside one.
//!
//! Everything that can block is either polled together with a [`Cancel`] (tools, pauses), asks it between
//! two pieces (chunks), or left a hook with it (network reads).

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Hook = Box<dyn FnOnce() + Send>;

/// A switch that is thrown once and seen by every clone.
#[derive(Clone)]
pub struct Cancel(Arc<Inner>);

struct Inner {
    thrown: AtomicBool,
    /// Readable for ever once the switch is thrown.
    event: OwnedFd,
    hooks: Mutex<Vec<Hook>>,
}

/// The work was ended early because somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work was stopped")]
pub struct Cancelled;

impl Cancel {
    /// A switch that is not thrown.
    ///
    /// # Panics
    /// When the process has no file descriptor left.
    #[expect(clippy::new_without_default, reason = "making one takes a file descriptor, which is no default")]
    pub fn new() -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("the agent holds few file descriptors");
        Cancel(Arc::new(Inner { thrown: AtomicBool::new(false), event, hooks: Mutex::default() }))
    }

    /// Throws the switch: wakes who waits and runs the hooks.
    pub fn cancel(&self) {
        let hooks = {
            let mut hooks = self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.thrown.store(true, Ordering::SeqCst);
            std::mem::take(&mut *hooks)
        };
        rustix::io::write(&self.0.event, &1u64.to_ne_bytes()).expect("an event counter takes a 1");
        hooks.into_iter().for_each(|hook| hook());
    }

    /// Whether the switch was thrown.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`Cancelled`] when the switch was thrown.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Waits for `pause`, or less when the switch is thrown meanwhile.
    ///
    /// # Errors
    /// [`Cancelled`] when the switch was thrown.
    pub fn wait(&self, pause: Duration) -> Result<(), Cancelled> {
        let pause = Timespec::try_from(pause).ok();
        // A signal may end the pause early, which no caller minds.
        let _ = poll(&mut [PollFd::new(&self.0.event, PollFlags::IN)], pause.as_ref());
        self.check()
    }

    /// Runs `hook` when the switch is thrown, at once if it already was.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hooks = self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cancelled() {
            drop(hooks);
            hook();
        } else {
            hooks.push(Box::new(hook));
        }
    }
}

impl AsFd for Cancel {
    /// Becomes readable when the switch is thrown.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_thrown_switch_ends_waits_and_runs_each_hook_once() {
        let cancel = Cancel::new();
        let ran = Arc::new(Mutex::new(0));
        let hook = |ran: &Arc<Mutex<i32>>| {
            let ran = Arc::clone(ran);
            move || *ran.lock().unwrap() += 1
        };
        cancel.on_cancel(hook(&ran));
        assert_eq!(cancel.wait(Duration::from_millis(1)), Ok(()));
        let start = clock::now();
        let clone = cancel.clone();
        let waiter = std::thread::spawn(move || clone.wait(Duration::from_secs(60)));
        cancel.cancel();
        assert_eq!(waiter.join().unwrap(), Err(Cancelled));
        assert!(start.elapsed() < Duration::from_secs(30));
        cancel.cancel();
        cancel.on_cancel(hook(&ran));
        assert_eq!(*ran.lock().unwrap(), 2);
    }
}
