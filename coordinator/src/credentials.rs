//! Every secret that follows from the site key: nothing of it is stored, so a restarted coordinator knows
//! all of them again, and no backup, export or log holds one. Pure; the key comes from its caller.

use crate::domain::deployment::{Deployment, Form};
use crate::domain::node::Node;
use crate::domain::user::Token;
use piseduce_protocol::bundle::{Bundle, HostKey};
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Serial};
use piseduce_protocol::path;
use piseduce_protocol::seal::{BootKeys, BootToken, SiteKey};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The secrets of a site.
#[derive(Clone)]
pub struct Credentials {
    site: SiteKey,
    host_keys: Arc<Mutex<HostKeys>>,
}

/// The host keys of runs, with their fingerprints.
type HostKeys = HashMap<(DeploymentId, Run), Arc<(HostKey, String)>>;

/// So many host keys are held, of about 1 KiB each; making one takes some 100 µs.
const HOST_KEYS_HELD: usize = 2048;

/// The two things that the card of a run can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That it booted; stays on the card.
    Booted,
    /// How the user's script went; leaves the card with the script.
    FirstBoot,
}

/// A token of new random bits: the one secret that does not follow from the site key.
///
/// # Errors
/// When the system has no random bits.
pub fn new_token() -> std::io::Result<Token> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| std::io::Error::other(format!("no random bytes: {error}")))?;
    Ok(Token::new(random))
}

impl Credentials {
    /// The secrets that follow from `site`.
    pub fn new(site: SiteKey) -> Self {
        Credentials { site, host_keys: Arc::default() }
    }

    /// The token of one boot of a node's boot root.
    pub fn boot_token(&self, serial: Serial, boot: BootNumber) -> BootToken {
        self.site.boot_token(serial, boot)
    }

    /// The keys of one boot of a node's boot root.
    pub fn boot_keys(&self, serial: Serial, boot: BootNumber) -> BootKeys {
        self.boot_token(serial, boot).keys()
    }

    /// The password of the coordinator's own session at the embedded broker.
    pub fn coordinator_password(&self) -> String {
        Hash(blake3::derive_key("piseduce v1 coordinator password", &self.site.0)).to_string()
    }

    /// The coordinator's client id at an external broker. Equal ids push each other out, so it differs between the sites
    /// that share a broker, and nobody else there can guess it.
    pub fn coordinator_client_id(&self) -> String {
        let id = Hash(blake3::derive_key("piseduce v1 coordinator client id", &self.site.0)).to_string();
        format!("coordinator-{}", &id[..16])
    }

    /// What a card of this run shows to prove something.
    pub fn card_token(&self, proof: Proof, deployment: DeploymentId, run: Run) -> String {
        let context = match proof {
            Proof::Booted => "piseduce v1 booted token",
            Proof::FirstBoot => "piseduce v1 first boot token",
        };
        Hash(self.derive(context, deployment, run)).to_string()
    }

    /// The SSH host key of this run, and its fingerprint as `ssh` shows it. Made once: an agent and every list of
    /// deployments asks for it again and again.
    pub fn host_key(&self, deployment: DeploymentId, run: Run) -> Arc<(HostKey, String)> {
        let mut made = self.host_keys.lock().expect("nobody panics while holding the keys");
        if let Some(key) = made.get(&(deployment, run)) {
            return key.clone();
        }
        let key = Arc::new(self.make_host_key(deployment, run));
        if made.len() >= HOST_KEYS_HELD {
            made.clear();
        }
        made.insert((deployment, run), key.clone());
        key
    }

    fn make_host_key(&self, deployment: DeploymentId, run: Run) -> (HostKey, String) {
        let seed = self.derive("piseduce v1 host key", deployment, run);
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let comment = format!("deployment-{deployment}-run-{run}");
        let key = PrivateKey::new(pair, comment).expect("an Ed25519 pair makes a key");
        let private = key.to_openssh(LineEnding::LF).expect("a key has a text form").to_string();
        let public = key.public_key().to_openssh().expect("a key has a text form");
        let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        (HostKey { algorithm: "ed25519".into(), private, public }, fingerprint)
    }

    /// What makes the image of `form` this user's node. `head` is the address of the nodes' listener.
    pub fn bundle(&self, node: &Node, deployment: &Deployment, form: &Form, head: &str) -> Bundle {
        let (id, run) = (deployment.id, deployment.run);
        Bundle {
            host_name: node.attributes.name.clone(),
            password_hash: form.password_hash.clone(),
            authorized_keys: form.ssh_keys.clone(),
            host_keys: vec![self.host_key(id, run).0.clone()],
            script: form.script.clone(),
            rerun_script: form.rerun_script,
            script_seconds: form.script_seconds,
            first_boot_url: format!("http://{head}{}", path::first_boot(id, run)),
            first_boot_token: self.card_token(Proof::FirstBoot, id, run),
            booted_token: self.card_token(Proof::Booted, id, run),
        }
    }

    fn derive(&self, context: &str, deployment: DeploymentId, run: Run) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.site.0).update(&deployment.0.to_le_bytes()).update(&run.0.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_the_same_after_a_restart_and_differ_by_run() {
        let credentials = Credentials::new(SiteKey([5; 32]));
        let (first, fingerprint) = &*credentials.host_key(DeploymentId(1), Run(1));
        assert_eq!(credentials.make_host_key(DeploymentId(1), Run(1)).0, *first);
        assert_ne!(credentials.host_key(DeploymentId(1), Run(2)).0.public, first.public);
        assert!(first.private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert!(first.public.starts_with("ssh-ed25519 ") && fingerprint.starts_with("SHA256:"));
    }

    #[test]
    fn the_tokens_of_a_card_prove_different_things() {
        let credentials = Credentials::new(SiteKey([5; 32]));
        let token = |proof| credentials.card_token(proof, DeploymentId(1), Run(1));
        assert_ne!(token(Proof::Booted), token(Proof::FirstBoot));
    }
}
