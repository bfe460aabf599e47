//! Network namespaces of a story's own: a head and a board at the two ends of a cable. They end with the story, however
//! it ends.

use crate::process::{command, mortal_command};
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

/// A network namespace, held by a process that sleeps in it.
pub struct Namespace(Child);

impl Namespace {
    /// A namespace with nothing but a loopback.
    ///
    /// # Errors
    /// When this is not root.
    pub fn new() -> anyhow::Result<Namespace> {
        crate::process::need_root()?;
        let mut holder = mortal_command("unshare");
        holder.args(["--net", "--", "sleep", "infinity"]).stdin(Stdio::null());
        let namespace = Namespace(holder.spawn().context("setpriv cannot be started")?);
        let own = fs::read_link("/proc/self/ns/net")?;
        let entered = || fs::read_link(namespace.path()).is_ok_and(|other| other != own);
        wait_for("the namespace", 10.0, entered, |entered| *entered);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The number of the process that holds it.
    pub fn process(&self) -> u32 {
        self.0.id()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
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
        let output = self.command("ip").args(arguments.split(' ')).output();
        let output = output.context("nsenter cannot be started; Debian's package util-linux has it")?;
        match output.status.success() {
            true => Ok(()),
            false => bail!("ip {arguments} failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    }

    /// Runs `work` in a thread of its own inside. Sockets that it makes and programs that it starts stay there.
    ///
    /// # Panics
    /// When `work` does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("its holder lives as long as it");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that has ended by itself is gone all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
