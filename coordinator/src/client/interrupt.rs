//! Ctrl-C while the coordinator works: what was asked for goes on there, and the user is told so.

use super::error::ClientError;
use crate::api::Started;
use std::io;
use std::sync::mpsc;
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Does `work` to its end, or until Ctrl-C. A request may take a minute: the user does not wait for it.
///
/// # Errors
/// What `work` comes to, or [`ClientError::Interrupted`] with what stays under way.
pub(super) fn until_interrupted<T: Send + 'static>(
    started: Vec<Started>,
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    let (runtime, mut interrupt) = listen().map_err(ClientError::Waiting)?;
    let (done, first) = mpsc::channel();
    let interrupted = done.clone();
    // Whoever comes second finds nobody waiting.
    thread::spawn(move || drop(done.send(work())));
    thread::spawn(move || {
        runtime.block_on(interrupt.recv());
        drop(interrupted.send(Err(ClientError::Interrupted(started))));
    });
    first.recv().expect("one of two threads speaks")
}

/// From now on Ctrl-C does not end the program.
fn listen() -> io::Result<(Runtime, Signal)> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let interrupt = signal(SignalKind::interrupt())?;
    drop(entered);
    Ok((runtime, interrupt))
}
