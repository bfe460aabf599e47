//! An NFS server's configuration for the boot roots that nodes fetch: read only, and nobody is root there. Text only; nothing is
//! started or written here.

use crate::domain::network::{Network, NfsServer};
use std::fmt::Write as _;
use std::path::Path;

/// Tells this export from others of the same server.
const GANESHA_EXPORT: u16 = 7077;

/// The file of a server's configuration.
pub fn file(server: NfsServer) -> &'static str {
    match server {
        // What `exportfs` reads ends so.
        NfsServer::Kernel => "piseduce.exports",
        NfsServer::Ganesha => "piseduce.conf",
    }
}

/// Where a server looks for it.
pub fn directory(server: NfsServer) -> &'static Path {
    Path::new(match server {
        NfsServer::Kernel => "/etc/exports.d",
        NfsServer::Ganesha => "/etc/ganesha",
    })
}

/// What makes a server read it.
pub fn make_it_so(server: NfsServer) -> &'static str {
    match server {
        NfsServer::Kernel => "`exportfs -ra` makes it so",
        NfsServer::Ganesha => {
            "`%include \"/etc/ganesha/piseduce.conf\"` in /etc/ganesha/ganesha.conf and `systemctl restart nfs-ganesha` make it so"
        }
    }
}

/// The configuration that exports `directory` to `networks`.
pub fn settings(server: NfsServer, directory: &Path, networks: &[Network]) -> String {
    let mut text = String::from("# Written by `piseduce netboot render`; what is changed here is lost.\n");
    let directory = directory.display();
    let clients = networks.iter().map(|network| network.subnet().to_string());
    match server {
        NfsServer::Kernel => {
            // A handle that is guessed leads nowhere outside: subtree_check. exports(5)
            let clients = clients.map(|client| format!(" {client}(ro,all_squash,subtree_check,sec=sys)"));
            let _ = writeln!(text, "{directory}{}", clients.collect::<String>());
        }
        NfsServer::Ganesha => {
            let clients: Vec<String> = clients.collect();
            let _ = write!(
                text,
                "EXPORT {{\n  Export_Id = {GANESHA_EXPORT};\n  Path = \"{directory}\";\n  Pseudo = \"{directory}\";\n  \
                 Access_Type = NONE;\n  Squash = All_Squash;\n  SecType = sys;\n  Protocols = 4;\n  \
                 Transports = TCP;\n  FSAL {{ Name = VFS; }}\n  CLIENT {{ Clients = {}; Access_Type = RO; \
                 Squash = All_Squash; }}\n}}\n",
                clients.join(", ")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::sample;

    #[test]
    fn every_network_may_read_and_nobody_write() {
        let networks =
            [sample(), Network { head: [10, 1, 0, 1].into(), range: None, gateway: None, ..sample() }];
        let text = |server| settings(server, Path::new("/srv/piseduce"), &networks);
        let kernel = text(NfsServer::Kernel);
        let options = "(ro,all_squash,subtree_check,sec=sys)";
        let line = format!("/srv/piseduce 10.0.0.0/24{options} 10.1.0.0/24{options}\n");
        assert!(kernel.ends_with(&line), "{kernel}");
        let ganesha = text(NfsServer::Ganesha);
        assert!(ganesha.contains("Clients = 10.0.0.0/24, 10.1.0.0/24; Access_Type = RO;"), "{ganesha}");
        assert!(!ganesha.contains("RW"), "{ganesha}");
    }
}
