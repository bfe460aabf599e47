//! Debian's Mosquitto, which may be killed and started again at the same address.

use crate::{program, wait};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use tempfile::TempDir;

pub(crate) struct Broker {
    pub(crate) port: u16,
    child: Option<Child>,
    directory: TempDir,
}

impl Broker {
    /// A broker that lets everybody in.
    pub(crate) fn new() -> Self {
        // Mosquitto cannot choose a port: one that is free now is most likely still free in a moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = TempDir::new().unwrap();
        let configuration = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        fs::write(directory.path().join("configuration"), configuration).unwrap();
        let mut broker = Broker { port, child: None, directory };
        broker.start();
        broker
    }

    pub(crate) fn start(&mut self) {
        let mut command = program::command("mosquitto");
        command.arg("-c").arg(self.directory.path().join("configuration"));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let port = self.port;
        wait::until("the broker", || {
            TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
