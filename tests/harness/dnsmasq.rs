//! The DHCP server of a rack's network: a real dnsmasq that gives each board its own address and says what Raspberry Pis
//! need to hear before they boot.

use crate::firmware::Model;
use crate::process::mortal_command;
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A board that it knows.
pub struct Host {
    /// Which board it is.
    pub model: Model,
    /// Its hardware address.
    pub mac: String,
    /// The address that it gets.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
}

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
        let (settings, log) = (directory.join("dnsmasq.conf"), directory.join("dnsmasq.log"));
        fs::write(&settings, configuration(directory, interface, head, hosts)?)?;
        let output = File::create(&log)?;
        let mut dnsmasq = mortal_command("dnsmasq");
        dnsmasq.arg("--keep-in-foreground").arg(format!("--conf-file={}", settings.display()));
        dnsmasq.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child =
            dnsmasq.spawn().context("setpriv cannot be started; Debian's package util-linux has it")?;
        let mut dnsmasq = Dnsmasq { child, log };
        let up = || (dnsmasq.child.try_wait().ok().flatten(), dnsmasq.logged().contains("DHCP, IP range"));
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

fn configuration(
    directory: &Path,
    interface: &str,
    head: Ipv4Addr,
    hosts: &[Host],
) -> Result<String, std::fmt::Error> {
    let [a, b, c, _] = head.octets();
    let leases = directory.join("leases");
    let mut text = format!(
        "port=0\ninterface={interface}\nbind-interfaces\nuser=root\nlog-facility=-\nlog-dhcp\n\
         dhcp-leasefile={}\ndhcp-range={a}.{b}.{c}.100,{a}.{b}.{c}.199,255.255.255.0,1h\nno-ping\n\
         dhcp-vendorclass=set:pi,PXEClient:Arch:00000:UNDI\n\
         pxe-service=tag:pi,0,\"Raspberry Pi Boot   \"\n\
         dhcp-option=option:tftp-server,{head}\ndhcp-boot=tag:pi,bootcode.bin,,{head}\n\
         dhcp-reply-delay=tag:pi3,1\n",
        leases.display()
    );
    for Host { model, mac, address, name } in hosts {
        let tag = if matches!(model, Model::Pi3 | Model::Pi3Plus) { "set:pi3," } else { "" };
        writeln!(text, "dhcp-host={mac},{tag}id:*,{address},{name}")?;
    }
    Ok(text)
}
