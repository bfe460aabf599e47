//! Whether the broker keeps what it is told to keep: our own presence is asked for on every connection. One that keeps
//! nothing leaves all who watch without a status; Mosquitto drops without a word what a user may not publish or read.

use super::link::LinkSettings;
use crate::clock::Instant;
use std::time::Duration;

/// How long a retained message may take to come after the broker said that it would.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is known about the broker.
#[derive(Default)]
pub(super) struct Retention {
    connection: Connection,
    /// Whether the last word in the log was that it keeps nothing.
    warned: bool,
}

/// How far the question is that is asked on each connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    /// The broker has not answered the subscription yet.
    #[default]
    Unasked,
    /// It has; the message must come.
    Asked(Instant),
    /// The message came.
    Found,
    /// It did not come in time.
    Missed,
}

impl Retention {
    /// A new connection: the broker may be another one.
    pub(super) fn begin_anew(&mut self) {
        self.connection = Connection::Unasked;
    }

    /// The broker answered the subscription.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.connection == Connection::Unasked {
            self.connection = Connection::Asked(now);
        }
    }

    /// Our presence came back.
    pub(super) fn found(&mut self) {
        self.connection = Connection::Found;
        if std::mem::take(&mut self.warned) {
            tracing::info!("the broker keeps retained messages again");
        }
    }

    /// Warns if it should have come back by now.
    pub(super) fn judge(&mut self, now: Instant, settings: &LinkSettings) {
        let Connection::Asked(asked) = self.connection else { return };
        if now.since(asked) <= ANSWER_MAX {
            return;
        }
        self.connection = Connection::Missed;
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                user = settings.account.user,
                "our own presence did not come back: the broker keeps no retained messages, or does not let our user \
                 publish and read"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::boot::Account;
    use piseduce_protocol::topic::Site;

    /// Whether a warning stands after the broker was asked and looked at after `seconds`.
    fn warned(retention: &mut Retention, seconds: u64) -> bool {
        let account = Account { user: "head".into(), password: String::new() };
        let site = Site::new("main").unwrap();
        let settings =
            LinkSettings { host: "x".into(), tcp_port: 1, client_id: "x".into(), account, site, epoch: 1 };
        retention.judge(Instant(seconds * 1000), &settings);
        retention.warned
    }

    #[test]
    fn a_presence_that_does_not_come_back_is_warned_of_until_one_does() {
        let mut retention = Retention::default();
        assert!(!warned(&mut retention, 100), "nothing was asked yet");
        retention.asked(Instant(100_000));
        assert!(!warned(&mut retention, 110) && warned(&mut retention, 111));
        retention.begin_anew();
        retention.found();
        retention.asked(Instant(200_000));
        assert!(!warned(&mut retention, 999), "it came before the answer to the subscription");
    }
}
