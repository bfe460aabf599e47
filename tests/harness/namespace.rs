//! Network namespaces of a story's own: a head and boards at the ends of cables. An open file holds each, and the kernel ends
//! it, with everything in it, once that file and the last process inside are gone, however a story ends.

use crate::process::{command, need_root};
use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The namespace of the thread that reads it.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// A namespace with nothing but a loopback.
    ///
    /// # Errors
    /// When this is not root.
    pub fn new() -> anyhow::Result<Namespace> {
        need_root()?;
        let made = std::thread::spawn(|| {
            #[expect(deprecated, reason = "what makes it unsafe is another flag, that for file descriptors")]
            rustix::thread::unshare(UnshareFlags::NEWNET).context("no network namespace can be made")?;
            ip(&["link set lo up"])?;
            Ok(Namespace(Arc::new(File::open(OWN)?)))
        });
        made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Its path, as long as this process holds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A program to be started in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut inside = command("nsenter");
        inside.arg(format!("--net={}", self.path())).arg(program);
        inside
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// With what it said.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.ip_all(&[arguments])
    }

    /// Runs several `ip` commands in it, one after the other, in one process.
    ///
    /// # Errors
    /// With what it said to the first one that failed.
    pub fn ip_all(&self, lines: &[impl AsRef<str>]) -> anyhow::Result<()> {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        self.during(|| ip(&lines))
    }

    /// Moves this thread into it, for good. What the thread starts from now on, threads and programs, lives there.
    ///
    /// # Panics
    /// When this is not root.
    pub fn enter(&self) {
        enter(&self.0);
    }

    /// Does `work` inside and comes back. Sockets that it makes and programs that it starts stay there; unlike with
    /// [`Namespace::within`] those programs are children of this thread.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Goes back also when `work` panics.
        struct Back(File);
        impl Drop for Back {
            fn drop(&mut self) {
                enter(&self.0);
            }
        }
        let _back = Back(File::open(OWN).expect("a thread has a network namespace"));
        self.enter();
        work()
    }

    /// Runs `work` in a thread of its own inside. Sockets that it makes and programs that it starts stay there.
    ///
    /// # Panics
    /// When `work` does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

/// Runs these `ip` commands in this thread's namespace.
///
/// # Errors
/// With what `ip` said to the first one that failed.
pub fn ip(lines: &[&str]) -> anyhow::Result<()> {
    let mut ip = command("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = ip.spawn().context("ip cannot be started; Debian's package iproute2 has it")?;
    let mut input = child.stdin.take().context("its input is piped")?;
    let written = input.write_all(lines.join("\n").as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip failed: {}: {}", lines.join("; "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(written?)
}
