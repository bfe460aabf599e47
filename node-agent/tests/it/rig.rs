//! A node without a broker: a card, a head, and the steps of the agent called one by one.

use crate::card::LoopCard;
use crate::head::Head;
use crate::image::{self, Image};
use piseduce_agent::cancel::Cancel;
use piseduce_agent::card::mount;
use piseduce_agent::step::cause::StepError;
use piseduce_agent::step::{self, Node, Session, Task};
use piseduce_protocol::bundle::{Bundle, HostKey};
use piseduce_protocol::command::{Verify, Work};
use piseduce_protocol::id::{DeploymentId, Run, Seq, Ticket};
use piseduce_protocol::path;
use piseduce_protocol::state::State;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const TICKET: Ticket = Ticket { deployment: DeploymentId(7), run: Run(2), seq: Seq(1) };
pub(crate) const BUNDLE_KEY: [u8; 32] = [9; 32];
const UPLOAD_KEY: [u8; 32] = [8; 32];
pub(crate) const CARD_BYTES: u64 = 256 << 20;

/// 2026-11-23 15:30:00 UTC, in milliseconds since 1970.
pub(crate) const UNIX_MS: u64 = 1_795_447_800_000;

thread_local! {
    /// Mounts of the test's own, as the agent's worker has them. In those of the whole machine any other test
    /// that makes itself a mount namespace would keep a copy of each, and the card busy.
    static PRIVATE_MOUNTS: () = mount::private_mounts().expect("root may have mounts of its own");
}

pub(crate) struct Rig<C = LoopCard> {
    pub(crate) card: C,
    pub(crate) head: Head,
    pub(crate) node: Node,
    pub(crate) work: Work,
}

impl Rig<LoopCard> {
    /// A used card of 256 MiB, and a head that serves the test image and a bundle.
    pub(crate) fn new() -> Self {
        Self::with(image::get(), LoopCard::dirty(CARD_BYTES, image::IMAGE_BYTES))
    }

    /// The given card, and a head that serves `image` and a bundle.
    pub(crate) fn with(image: &Image, card: LoopCard) -> Self {
        let path = card.path.clone();
        Rig::over(image, card, path)
    }
}

impl<C> Rig<C> {
    /// The card whose device is `path`, kept by `card`.
    pub(crate) fn over(image: &Image, card: C, path: PathBuf) -> Self {
        let head = Head::new();
        image.serve(&head);
        let locked = bundle(&head).lock(&BUNDLE_KEY);
        head.serve(path::bundle(TICKET.deployment, TICKET.run), locked.clone(), false);
        let node = Node {
            card: path,
            head: head.address.clone(),
            patience: Duration::from_millis(500),
            bundle_key: BUNDLE_KEY,
            upload_key: UPLOAD_KEY,
            model: "Raspberry Pi 4 Model B Rev 1.4".into(),
        };
        let work = Work {
            state: State::EnvCopy,
            attempt: 1,
            manifest: image.name,
            bundle: Bundle::name_of(&locked),
            part_size: "whole".parse().unwrap(),
            verify: Verify::Written,
            recopy_boot: false,
        };
        Rig { card, head, node, work }
    }

    /// Does the work of `state` in the session `slot`; a failure is its cause as text.
    pub(crate) fn perform(&self, slot: &mut Option<Session>, state: State) -> Result<String, String> {
        self.perform_watched(slot, state, &|_, _| {})
    }

    /// The same with an ear for progress: bytes done and in total, which is 0 while it is unknown.
    pub(crate) fn perform_watched(
        &self,
        slot: &mut Option<Session>,
        state: State,
        watch: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<String, String> {
        PRIVATE_MOUNTS.with(|_| {});
        let work = Work { state, ..self.work.clone() };
        let task = Task {
            node: &self.node,
            ticket: TICKET,
            work: &work,
            unix_ms: UNIX_MS,
            cancel: &Cancel::new(),
            wrote: &|_, _| {},
            advance: &|done, total| {
                assert!(total == 0 || done <= total, "{done} of {total}");
                watch(done, total);
            },
        };
        step::perform(slot, task).map_err(|error| match error {
            StepError::Cancelled => "stopped".into(),
            StepError::Failed(cause) => cause.to_string(),
        })
    }

    /// Does the work of `states`, which must go well, in one session.
    pub(crate) fn perform_all(&self, slot: &mut Option<Session>, states: &[State]) {
        for state in states {
            self.perform(slot, *state).unwrap_or_else(|cause| panic!("{state}: {cause}"));
        }
    }
}

pub(crate) fn bundle(head: &Head) -> Bundle {
    Bundle {
        host_name: "pi-7".into(),
        password_hash: Some("$6$salt$hash".into()),
        authorized_keys: vec!["ssh-ed25519 AAAA user@lab".into()],
        host_keys: vec![HostKey {
            algorithm: "ed25519".into(),
            private: "-----BEGIN OPENSSH PRIVATE KEY-----\nkey\n-----END OPENSSH PRIVATE KEY-----".into(),
            public: "ssh-ed25519 BBBB pi-7".into(),
        }],
        script: Some(b"#!/bin/sh\necho hello\n".to_vec()),
        rerun_script: false,
        script_seconds: 60,
        first_boot_url: format!("http://{}{}", head.address, path::first_boot(TICKET.deployment, TICKET.run)),
        first_boot_token: "first-boot-token".into(),
        booted_token: "booted-token".into(),
    }
}
