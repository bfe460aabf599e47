//! The `http` driver: a switch, a smart plug or a controller that is asked over HTTP. The requests are the operator's
//! ([`crate::domain::driver::HttpSettings`]) or those of [`presets`]; [`template`] fills them in, [`secrets`] keeps
//! what nobody may see.
//!
//! No connection, a time-out, status 408, 429 and 5xx, and a port that shows neither on nor off are no answer, tried
//! again. Any other answer that is no success is a refusal, told with the beginning of its body.

mod presets;
mod template;

#[cfg(test)]
mod tests;

use super::secrets::Secrets;
use super::{Answer, Port, PortView, Power, PowerError, PowerSwitch, Reading};
use crate::domain::driver::{HttpLogin, HttpMeaning, HttpRequest, HttpSettings, HttpState};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use template::Filling;

/// A request that takes longer has no answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// So much of an answer is told.
const EXCERPT_CHARACTERS: usize = 160;

/// A switch that is asked over HTTP.
pub(super) struct HttpSwitch {
    inner: Arc<Inner>,
}

struct Inner {
    settings: HttpSettings,
    agent: ureq::Agent,
    session: Mutex<Session>,
    /// Held for the time of one request: who asked may have given up, and the next one must wait all the same.
    turn: Mutex<()>,
}

/// What a login has brought.
#[derive(Clone, Default)]
struct Session {
    is_open: bool,
    token: String,
    cookies: BTreeMap<String, String>,
}

/// What came back.
struct Came {
    status: u16,
    text: String,
    json: Option<Value>,
    token: Option<String>,
}

impl HttpSwitch {
    /// The switch of these settings.
    pub(super) fn new(settings: &HttpSettings) -> Self {
        HttpSwitch::with_limit(settings, ANSWER_MAX)
    }

    /// The same with another time limit for each request.
    fn with_limit(settings: &HttpSettings, answer_max: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(answer_max))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            // Small devices close connections without a word, and count them.
            .max_idle_connections(0)
            .build();
        let settings = presets::expand(settings);
        HttpSwitch {
            inner: Arc::new(Inner {
                settings,
                agent: config.into(),
                session: Mutex::default(),
                turn: Mutex::default(),
            }),
        }
    }

    /// Runs `ask` where it may block.
    async fn off_the_loop<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Inner) -> Result<T, PowerError> + Send + 'static,
    ) -> Result<T, PowerError> {
        let inner = self.inner.clone();
        let ask = move || {
            let _turn = inner.turn.lock().expect("a request does not panic");
            ask(&inner)
        };
        tokio::task::spawn_blocking(ask).await.expect("a request does not panic")
    }
}

impl Inner {
    /// One request in the session, with a new login if the switch wants one.
    fn ask(&self, action: &str, port: &Port, request: &HttpRequest) -> Result<(Came, Secrets), PowerError> {
        let secrets = match &self.settings.secrets {
            Some(file) => Secrets::read(file)?,
            None => Secrets::default(),
        };
        let mut session = self.session.lock().expect("a request does not panic").clone();
        let before = session.is_open;
        let came = self.in_session(action, port, request, &secrets, &mut session);
        // The session may have run out since it was last used; a fresh one that is refused is another matter.
        let came = match (&self.settings.login, came) {
            (Some(login), Ok(came)) if before && wants_login(login, &came) => {
                session = Session::default();
                self.in_session(action, port, request, &secrets, &mut session)
            }
            (_, came) => came,
        };
        let judged = came.and_then(|came| {
            let is_right = match &request.success.answer {
                Some(answer) => {
                    let filling = Filling { port, action, token: &session.token, secrets: &secrets };
                    shown(answer, &came, &filling)? == Some(true)
                }
                None => true,
            };
            let judged = judge(&came, &request.success.status, is_right);
            if self.settings.login.as_ref().is_some_and(|login| wants_login(login, &came)) {
                session.is_open = false;
            }
            judged.map(|()| came)
        });
        let judged = judged.map_err(|error| {
            // Secrets are taken out before it is cut, so that no half of one is left.
            let told = |why: String| {
                let why = secrets.hide(&why, session.hidden()).replace(char::is_control, " ");
                format!("`{action}`: {}", why.chars().take(EXCERPT_CHARACTERS).collect::<String>())
            };
            match error {
                PowerError::Unreachable(why) => PowerError::Unreachable(told(why)),
                PowerError::Refused(why) => PowerError::Refused(told(why)),
            }
        });
        *self.session.lock().expect("a request does not panic") = session;
        Ok((judged?, secrets))
    }

    fn in_session(
        &self,
        action: &str,
        port: &Port,
        request: &HttpRequest,
        secrets: &Secrets,
        session: &mut Session,
    ) -> Result<Came, PowerError> {
        if let (Some(login), false) = (&self.settings.login, session.is_open) {
            self.log_in(login, port, secrets, session)?;
        }
        self.send(action, port, request, secrets, session)
    }

    fn log_in(
        &self,
        login: &HttpLogin,
        port: &Port,
        secrets: &Secrets,
        session: &mut Session,
    ) -> Result<(), PowerError> {
        let of_login = |error| match error {
            PowerError::Unreachable(why) => PowerError::Unreachable(format!("login: {why}")),
            PowerError::Refused(why) => PowerError::Refused(format!("login: {why}")),
        };
        let came = self.send("login", port, &login.request, secrets, session).map_err(of_login)?;
        let filling = Filling { port, action: "login", token: "", secrets };
        let answer = login.request.success.answer.as_ref();
        let is_right =
            answer.map_or(Ok(true), |answer| shown(answer, &came, &filling).map(|yes| yes == Some(true)))?;
        judge(&came, &login.request.success.status, is_right).map_err(of_login)?;
        let from_body = login.token.as_ref().and_then(|pointer| came.json.as_ref()?.pointer(pointer));
        let token = from_body.and_then(Value::as_str).map(str::to_owned).or(came.token);
        if token.is_none() && (login.token.is_some() || login.token_header.is_some()) {
            return Err(PowerError::Refused("login: the answer has no token".into()));
        }
        session.token = token.unwrap_or_default();
        session.is_open = true;
        Ok(())
    }

    /// One request and what came back, whatever it is.
    fn send(
        &self,
        action: &str,
        port: &Port,
        request: &HttpRequest,
        secrets: &Secrets,
        session: &mut Session,
    ) -> Result<Came, PowerError> {
        let filled = Filling { port, action, token: &session.token, secrets }.fill(request)?;
        let mut builder = ureq::http::Request::builder().method(filled.method.as_str()).uri(&filled.url);
        for (name, value) in &filled.headers {
            builder = builder.header(name, value);
        }
        if !session.cookies.is_empty() {
            let cookies: Vec<String> =
                session.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            builder = builder.header("Cookie", cookies.join("; "));
        }
        // What is wrong with a header or a URL may quote it.
        let malformed = |_| PowerError::Refused("the request cannot be sent as it is filled in".into());
        let answer = match filled.body {
            Some(body) => self.agent.run(builder.body(body).map_err(malformed)?),
            None => self.agent.run(builder.body(()).map_err(malformed)?),
        };
        let mut answer = answer.map_err(|error| PowerError::Unreachable(error.to_string()))?;
        for cookie in answer.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                session.cookies.insert(name.trim().into(), value.trim().into());
            }
        }
        let header = self.settings.login.as_ref().and_then(|login| login.token_header.as_ref());
        let token =
            header.and_then(|name| answer.headers().get(name.as_str())?.to_str().ok()).map(str::to_owned);
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        let reader = answer.body_mut().with_config().limit(u64::MAX).reader();
        std::io::Read::read_to_end(&mut std::io::Read::take(reader, ANSWER_BYTES_MAX), &mut bytes)
            .map_err(|error| PowerError::Unreachable(error.to_string()))?;
        let json = serde_json::from_slice(&bytes).ok();
        Ok(Came { status, text: String::from_utf8_lossy(&bytes).into_owned(), json, token })
    }

    fn read(&self, state: &HttpState, port: &Port) -> Result<(Reading, Option<u64>), PowerError> {
        let (came, secrets) = self.ask("state", port, &state.request)?;
        let filling = Filling { port, action: "state", token: "", secrets: &secrets };
        let Some(on) = shown(&state.on, &came, &filling)? else {
            let why = format!("`state`: port {} shows neither on nor off", port.port);
            return match found(&state.on, &came, &filling)? {
                // Such as `unavailable`, which may pass.
                Some(value) => {
                    let session = self.session.lock().expect("a request does not panic");
                    let value = secrets.hide(&value.to_string(), session.hidden());
                    let value: String = value.chars().take(EXCERPT_CHARACTERS).collect();
                    Err(PowerError::Unreachable(format!("{why} but {value}")))
                }
                None => Err(PowerError::Refused(format!("{why}: nothing is at {}", state.on.pointer))),
            };
        };
        let delivering = match &state.delivering {
            Some(meaning) => shown(meaning, &came, &filling)?,
            None => None,
        };
        let watts = state.watts.as_ref().map(|pointer| filling.pointer(pointer)).transpose()?;
        let watts = watts.and_then(|pointer| came.json.as_ref()?.pointer(&pointer)?.as_f64());
        let milliwatts =
            watts.filter(|watts| (0.0..1e6).contains(watts)).map(|watts| (watts * 1000.0) as u64);
        Ok((Reading { on, delivering }, milliwatts))
    }
}

impl Session {
    fn hidden(&self) -> impl Iterator<Item = &str> {
        self.cookies.values().map(String::as_str).chain([self.token.as_str()])
    }
}

fn wants_login(login: &HttpLogin, came: &Came) -> bool {
    let says = |again: &HttpMeaning| {
        let json = came.json.as_ref();
        let at = |pointer: &String| json.and_then(|json| json.pointer(pointer));
        at(&again.pointer)
            .or_else(|| again.or.as_ref().and_then(at))
            .is_some_and(|value| again.yes.contains(value))
    };
    matches!(came.status, 401 | 403)
        || login.again_status.contains(&came.status)
        || login.again.as_ref().is_some_and(says)
}

fn found<'a>(
    meaning: &HttpMeaning,
    came: &'a Came,
    filling: &Filling<'_>,
) -> Result<Option<&'a Value>, PowerError> {
    for pointer in [&meaning.pointer].into_iter().chain(&meaning.or) {
        let pointer = filling.pointer(pointer)?;
        if let Some(value) = came.json.as_ref().and_then(|json| json.pointer(&pointer)) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Yes, no, or neither.
fn shown(meaning: &HttpMeaning, came: &Came, filling: &Filling<'_>) -> Result<Option<bool>, PowerError> {
    let Some(value) = found(meaning, came, filling)? else { return Ok(None) };
    Ok(match (meaning.yes.contains(value), meaning.no.contains(value)) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ if meaning.no.is_empty() => Some(false),
        _ if meaning.yes.is_empty() => Some(true),
        _ => None,
    })
}

fn judge(came: &Came, allowed: &[u16], is_right: bool) -> Result<(), PowerError> {
    let status = came.status;
    let is_allowed =
        if allowed.is_empty() { (200..300).contains(&status) } else { allowed.contains(&status) };
    if is_allowed && is_right {
        return Ok(());
    }
    let said = if came.text.trim().is_empty() { "nothing" } else { came.text.trim() };
    let why = format!("status {status} and {said}");
    match status {
        408 | 429 | 500..=599 if !is_allowed => Err(PowerError::Unreachable(why)),
        _ => Err(PowerError::Refused(why)),
    }
}

impl PowerSwitch for HttpSwitch {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        let port = port.clone();
        Box::pin(self.off_the_loop(move |inner| {
            let (action, request) = match power {
                Power::On => ("on", &inner.settings.on),
                Power::Off => ("off", &inner.settings.off),
            };
            let missing = || PowerError::Refused(format!("there is no request for `{action}`"));
            inner.ask(action, &port, request.as_ref().ok_or_else(missing)?).map(drop)
        }))
    }

    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        Box::pin(async move { self.look(port).await.map(|(reading, _)| reading) })
    }

    fn view<'a>(&'a self, port: &'a Port) -> Answer<'a, PortView> {
        Box::pin(async move {
            let (reading, milliwatts) = self.look(port).await?;
            let Reading { on, delivering } = reading;
            Ok(PortView {
                port: port.port.clone(),
                on: Some(on),
                delivering,
                milliwatts,
                ..PortView::default()
            })
        })
    }

    fn reads_back(&self) -> bool {
        self.inner.settings.state.is_some()
    }
}

impl HttpSwitch {
    async fn look(&self, port: &Port) -> Result<(Reading, Option<u64>), PowerError> {
        let port = port.clone();
        self.off_the_loop(move |inner| {
            let missing = || PowerError::Refused("there is no request that reads a port".into());
            inner.read(inner.settings.state.as_ref().ok_or_else(missing)?, &port)
        })
        .await
    }
}
