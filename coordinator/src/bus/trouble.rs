//! Why there is no link to the broker: facts that stay the same from try to try, so that a log can say each once.

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use std::io;

/// What keeps us from the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// No TCP connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// A connection, and no answer on it.
    #[error("it does not answer")]
    Silent,
    /// It hung up before it answered. A refusal that MQTT has no code for looks like this.
    #[error("it closes the connection without an answer, as one does that keeps no retained messages")]
    Closed,
    /// It hung up later.
    #[error("it ended the connection")]
    Ended,
    /// It does not let this user in. Mosquitto answers "not authorised" to a wrong password, too.
    #[error("it refuses our user: the name or the password is wrong, or the user may not connect")]
    Account,
    /// It does not let this client id in.
    #[error("it refuses our client id")]
    ClientId,
    /// It lets nobody in now.
    #[error("it takes no clients at the moment")]
    Unavailable,
    /// It does not let us hear the agents.
    #[error("it does not let our user subscribe to what agents say")]
    Subscription,
    /// It takes what we say and does not acknowledge it.
    #[error("it acknowledges nothing")]
    Unacknowledged,
    /// It is no broker, or speaks another language.
    #[error("it does not speak MQTT 3.1.1")]
    Protocol,
}

impl Trouble {
    /// What `error` means on a connection that the broker has answered or not.
    pub(super) fn of(error: &ConnectionError, answered: bool) -> Trouble {
        match error {
            ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
                Trouble::of_io(error, answered)
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => Trouble::ended(answered),
            ConnectionError::NetworkTimeout
            | ConnectionError::FlushTimeout
            | ConnectionError::MqttState(StateError::AwaitPingResp) => Trouble::Silent,
            // After a collision rumqttc would wait for an acknowledgement that never comes.
            ConnectionError::MqttState(StateError::CollisionTimeout) => Trouble::Unacknowledged,
            ConnectionError::ConnectionRefused(code) => match code {
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Trouble::Account,
                ConnectReturnCode::BadClientId => Trouble::ClientId,
                ConnectReturnCode::ServiceUnavailable => Trouble::Unavailable,
                ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::Success => Trouble::Protocol,
            },
            ConnectionError::MqttState(_)
            | ConnectionError::NotConnAck(_)
            | ConnectionError::RequestsDone => Trouble::Protocol,
        }
    }

    fn of_io(error: &io::Error, answered: bool) -> Trouble {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            _ if answered => Trouble::Ended,
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Trouble::Closed,
            _ => {
                let text = error.to_string();
                let end = text.find(" (os error").unwrap_or(text.len());
                Trouble::Unreachable(text[..end].to_lowercase())
            }
        }
    }

    fn ended(answered: bool) -> Trouble {
        if answered { Trouble::Ended } else { Trouble::Closed }
    }

    /// Whether it lasts until somebody does something about it.
    pub(super) fn needs_somebody(&self) -> bool {
        match self {
            Trouble::Account | Trouble::ClientId | Trouble::Subscription | Trouble::Protocol => true,
            Trouble::Unreachable(_)
            | Trouble::Silent
            | Trouble::Closed
            | Trouble::Ended
            | Trouble::Unavailable
            | Trouble::Unacknowledged => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_another_trouble_before_and_after_an_answer() {
        let reset = || ConnectionError::Io(io::ErrorKind::ConnectionReset.into());
        assert_eq!(Trouble::of(&reset(), false), Trouble::Closed);
        assert_eq!(Trouble::of(&reset(), true), Trouble::Ended);
        let refused = ConnectionError::Io(io::Error::from_raw_os_error(111));
        assert_eq!(Trouble::of(&refused, false).to_string(), "it cannot be reached: connection refused");
    }

    #[test]
    fn a_refused_user_needs_somebody_and_a_broker_that_is_away_does_not() {
        let refused = |code| Trouble::of(&ConnectionError::ConnectionRefused(code), false);
        assert!(refused(ConnectReturnCode::NotAuthorized).needs_somebody());
        assert!(refused(ConnectReturnCode::BadUserNamePassword).needs_somebody());
        assert!(!refused(ConnectReturnCode::ServiceUnavailable).needs_somebody());
        assert!(!Trouble::Silent.needs_somebody());
    }
}
