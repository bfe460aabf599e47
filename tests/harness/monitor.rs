//! Follows the event topic as a monitoring user does, to act the moment a state is entered.

use crate::coordinator::Coordinator;
use crate::mosquitto::Login;
use crate::wait::seconds;
use piseduce_protocol::id::{DeploymentId, Run};
use piseduce_protocol::state::State;
use piseduce_protocol::status::StateEvent;
use piseduce_protocol::topic::{Site, Topic};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, RecvTimeoutError};
use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

/// The user in whose name a monitor reads.
pub const MONITOR: &str = "watcher";

/// State events as they come.
pub struct Monitor {
    events: mpsc::Receiver<StateEvent>,
    client: Client,
}

impl Monitor {
    /// Connects to the coordinator's broker as [`MONITOR`], who must be a user of it; hears from now on.
    ///
    /// # Panics
    /// When the broker does not let it in within 10 s.
    pub fn connect(coordinator: &Coordinator) -> Monitor {
        let token = fs::read_to_string(coordinator.token_file(MONITOR)).expect("the monitor has a token");
        Monitor::connect_as(&Login::new(MONITOR, token.trim()), coordinator.broker)
    }

    /// Connects to any broker as a user of it.
    ///
    /// # Panics
    /// As [`Monitor::connect`].
    pub fn connect_as(login: &Login, broker: SocketAddr) -> Monitor {
        let mut options = MqttOptions::new("harness", broker.ip().to_string(), broker.port());
        options.set_credentials(&login.user, &login.password).set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 16);
        let topic = Site::new("main").expect("a valid name").render(&Topic::Event);
        client.subscribe(topic, QoS::AtMostOnce).expect("the queue has room");
        let (send, events) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            loop {
                match connection.recv_timeout(Duration::from_secs(60)) {
                    Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                        let event = serde_json::from_slice(&publish.payload).expect("events are JSON");
                        if send.send(event).is_err() {
                            return;
                        }
                    }
                    // Nobody may be waiting for the first subscription any more.
                    Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => drop(ready.send(())),
                    Ok(Ok(_)) | Err(RecvTimeoutError::Timeout) => {}
                    Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        is_ready.recv_timeout(Duration::from_secs(10)).expect("the broker lets a monitor in");
        Monitor { events, client }
    }

    /// Waits until a run enters `state`, or a later one of the normal course if that was too fast to see.
    ///
    /// # Panics
    /// When `limit` seconds are over.
    pub fn wait_for(&self, run: (DeploymentId, Run), state: State, limit: f64) -> StateEvent {
        let event = self.reached(run, state, limit);
        event.unwrap_or_else(|| panic!("{run:?} did not enter {state} within {limit} s"))
    }

    /// The same; none when `limit` seconds are over.
    pub fn reached(&self, run: (DeploymentId, Run), state: State, limit: f64) -> Option<StateEvent> {
        let until = seconds() + limit;
        loop {
            let left = Duration::from_secs_f64((until - seconds()).max(0.0));
            let event = self.events.recv_timeout(left).ok()?;
            if (event.deployment, event.run) == run && event.state >= state {
                return Some(event);
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // A broker that is gone needs no farewell.
        let _ = self.client.try_disconnect();
    }
}
