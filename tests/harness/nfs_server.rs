//! The NFS server of a rack's network: a real nfs-ganesha with the export that `piseduce netboot render` writes.

use crate::process::mortal_command;
use crate::wait::wait_for;
use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const UP: &str = "NFS SERVER INITIALIZED";

/// A running server.
pub struct NfsServer {
    child: Child,
}

impl NfsServer {
    /// Starts one at `head`, in this thread's network namespace, that exports what `export` says; works in `directory`.
    ///
    /// # Errors
    /// When it is not installed, or ends at once.
    pub fn start(directory: &Path, head: Ipv4Addr, export: &Path) -> anyhow::Result<NfsServer> {
        fs::create_dir_all(directory)?;
        let (settings, log) = (directory.join("ganesha.conf"), directory.join("ganesha.log"));
        let text = format!(
            "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = 2049; Bind_addr = {head}; Enable_UDP = false; Enable_NLM = false; \
             Enable_RQUOTA = false; }}\n\
             NFSv4 {{ Graceless = true; Lease_Lifetime = 10; RecoveryBackend = fs; Only_Numeric_Owners = true; }}\n\
             NFS_KRB5 {{ Active_krb5 = false; }}\n\
             %include \"{}\"\n",
            export.display()
        );
        fs::write(&settings, text)?;
        File::create(&log)?;
        let mut ganesha = mortal_command("ganesha.nfsd");
        ganesha.arg("-F").arg("-f").arg(&settings).arg("-L").arg(&log);
        ganesha.arg("-p").arg(directory.join("ganesha.pid"));
        ganesha.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            ganesha.spawn().context("setpriv cannot be started; Debian's package util-linux has it")?;
        let mut server = NfsServer { child };
        let logged = || fs::read_to_string(&log).unwrap_or_default();
        let up = || (server.child.try_wait().ok().flatten(), logged().contains(UP));
        let (ended, _) = wait_for("nfs-ganesha to come up", 20.0, up, |(ended, up)| ended.is_some() || *up);
        if let Some(status) = ended {
            bail!(
                "ganesha.nfsd (Debian's packages nfs-ganesha and nfs-ganesha-vfs) ended with {status}: {}",
                logged()
            );
        }
        Ok(server)
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        // One that has ended by itself is gone all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the export stands that `piseduce netboot render` writes into `directory`.
pub fn export_in(directory: &Path) -> PathBuf {
    use piseduce_coordinator::domain::network::NfsServer::Ganesha;
    directory.join(piseduce_coordinator::netboot::nfs::file(Ganesha))
}
