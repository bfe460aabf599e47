//! The switches of a swarm: one HTTP server plays all of them, 48 ports each. What it does takes no time.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The ports of one switch.
const PORTS: usize = 48;

/// The power of a board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Power {
    /// Whether it has any.
    pub(super) is_on: bool,
    /// How often it was switched on: another number is another power-on, however short the dark was.
    pub(super) cycles: u64,
}

/// The ports of all switches, a board at each.
#[derive(Clone)]
pub(super) struct Ports(Arc<Vec<watch::Sender<Power>>>);

impl Ports {
    /// Ports for so many boards, all off.
    pub(super) fn new(count: usize) -> Ports {
        Ports(Arc::new((0..count).map(|_| watch::Sender::default()).collect()))
    }

    /// The power of a board, to be watched.
    pub(super) fn of(&self, index: usize) -> watch::Receiver<Power> {
        self.0[index].subscribe()
    }

    /// Answers the coordinator's power driver until the runtime ends.
    pub(super) async fn serve(self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let routes =
            Router::new().route("/{switch}/{port}", get(read)).route("/{switch}/{port}/{wish}", post(set));
        axum::serve(listener, routes.with_state(self)).await
    }

    fn port(&self, switch: usize, port: usize) -> Result<&watch::Sender<Power>, StatusCode> {
        let index = port.checked_sub(1).filter(|port| *port < PORTS).map(|port| switch * PORTS + port);
        index.and_then(|index| self.0.get(index)).ok_or(StatusCode::NOT_FOUND)
    }
}

async fn read(
    State(ports): State<Ports>,
    Path((switch, port)): Path<(usize, usize)>,
) -> Result<String, StatusCode> {
    let is_on = ports.port(switch, port)?.borrow().is_on;
    Ok(format!("{{\"on\":{is_on}}}"))
}

async fn set(
    State(ports): State<Ports>,
    Path((switch, port, wish)): Path<(usize, usize, String)>,
) -> Result<(), StatusCode> {
    let wished = match wish.as_str() {
        "on" => true,
        "off" => false,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    ports.port(switch, port)?.send_if_modified(|power| {
        let changes = power.is_on != wished;
        power.is_on = wished;
        power.cycles += u64::from(changes && wished);
        changes
    });
    Ok(())
}

/// The entry of an inventory for the switches of so many boards, which all are at `server`.
pub(super) fn inventory(server: SocketAddr, count: usize) -> String {
    let switch = |number: usize| {
        let url = format!("http://{server}/{number}/{{port}}");
        format!(
            "[[switch]]\nname = \"{}\"\noff_time_ms = 0\n[switch.driver.http]\n\
             on = {{ url = \"{url}/on\", method = \"POST\" }}\noff = {{ url = \"{url}/off\", method = \"POST\" }}\n\
             [switch.driver.http.state]\nrequest = {{ url = \"{url}\" }}\n\
             on = {{ pointer = \"/on\", yes = [true], no = [false] }}\n\n",
            name(number)
        )
    };
    (0..count.div_ceil(PORTS)).map(switch).collect()
}

/// The switch and the port of a board.
pub(super) fn place(index: usize) -> (String, usize) {
    (name(index / PORTS), index % PORTS + 1)
}

fn name(switch: usize) -> String {
    format!("switch-{switch}")
}
