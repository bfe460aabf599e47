//! The DHCP server of a rack's network: a real dnsmasq with the settings that `piseduce netboot render` writes.

use crate::process::mortal_command;
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use piseduce_coordinator::domain::network::{Dhcp, Network};
use piseduce_coordinator::netboot::dnsmasq::{self, HOSTS, Host, SETTINGS};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A running dnsmasq.
pub struct Dnsmasq {
    child: Child,
    log: PathBuf,
}

impl Dnsmasq {
    /// Starts one that listens on `interface` of this thread's network namespace, whose address is `head`.
    ///
    /// # Errors
    /// When it is not installed, or ends at once.
    pub fn start(
        directory: &Path,
        interface: &str,
        head: Ipv4Addr,
        hosts: &[Host],
    ) -> anyhow::Result<Dnsmasq> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join(SETTINGS), dnsmasq::settings(&[network(interface, head)?], directory))?;
        fs::write(directory.join(HOSTS), dnsmasq::hosts(hosts))?;
        Dnsmasq::run(directory)
    }

    /// Starts one with the settings that were rendered into `directory`.
    ///
    /// # Errors
    /// When it is not installed, or ends at once.
    pub fn run(directory: &Path) -> anyhow::Result<Dnsmasq> {
        let (settings, log) = (directory.join(SETTINGS), directory.join("dnsmasq.log"));
        let output = File::create(&log)?;
        let mut dnsmasq = mortal_command("dnsmasq");
        dnsmasq.arg("--keep-in-foreground").arg(format!("--conf-file={}", settings.display()));
        // What a distribution's own settings say.
        let leases = directory.join("leases");
        dnsmasq.args(["--user=root", "--log-facility=-"]);
        dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
        dnsmasq.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child =
            dnsmasq.spawn().context("setpriv cannot be started; Debian's package util-linux has it")?;
        let mut dnsmasq = Dnsmasq { child, log };
        let up = || (dnsmasq.child.try_wait().ok().flatten(), is_serving(&dnsmasq.logged()));
        let (ended, _) = wait_for("dnsmasq to come up", 10.0, up, |(ended, up)| ended.is_some() || *up);
        if let Some(status) = ended {
            bail!("dnsmasq (Debian's package dnsmasq-base) ended with {status}: {}", dnsmasq.logged());
        }
        Ok(dnsmasq)
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // One that has ended by itself is gone all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_serving(log: &str) -> bool {
    log.contains("DHCP, IP range") || log.contains("DHCP, proxy on subnet")
}

/// A network of this head's own, with some addresses for boards that nobody knows.
fn network(interface: &str, head: Ipv4Addr) -> anyhow::Result<Network> {
    let [a, b, c, _] = head.octets();
    let network = Network {
        interface: interface.into(),
        head,
        prefix_length: 24,
        dhcp: Dhcp::Own,
        range: Some((Ipv4Addr::new(a, b, c, 100), Ipv4Addr::new(a, b, c, 199))),
        gateway: None,
        dns: vec![],
        ntp: vec![],
    };
    Ok(network.checked()?)
}
