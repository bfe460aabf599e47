//! The driver against a switch with faults to order, and each preset against a switch as its vendor documents it.

use super::super::secrets;
use super::*;
use crate::domain::driver::{HttpPreset, HttpSuccess};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

/// A secret that percent-encoding and JSON escapes both change.
const PASSWORD: &str = "p\"ss & wörd/%";
const TOKEN: &str = "token-c0ffee";

/// What came in.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
    fn at(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }
}

type Script = Arc<Mutex<dyn FnMut(Asked) -> Response + Send>>;

/// A server on a port of its own that answers by `script`; its address.
async fn serve(script: impl FnMut(Asked) -> Response + Send + 'static) -> String {
    async fn answer(
        State(script): State<Script>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let body = String::from_utf8_lossy(&body).into_owned();
        (script.lock().unwrap())(Asked { method, uri, headers, body })
    }
    let script: Script = Arc::new(Mutex::new(script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer).with_state(script);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[expect(clippy::needless_pass_by_value, reason = "its callers make the answer in place")]
fn says(status: u16, json: Value) -> Response {
    (axum::http::StatusCode::from_u16(status).unwrap(), json.to_string()).into_response()
}

fn secrets() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let lines = format!("user = 'root'\npassword = '{PASSWORD}'\ntoken = '{TOKEN}'\nbasic = 'cm9vdDpw'\n");
    file.write_all(lines.as_bytes()).unwrap();
    file
}

fn port(name: &str) -> Port {
    Port { port: name.into(), node: "pi-7".into() }
}

fn preset(preset: HttpPreset, url: &str, secrets: Option<&tempfile::NamedTempFile>) -> HttpSwitch {
    let settings = HttpSettings {
        preset: Some(preset),
        url: Some(url.into()),
        secrets: secrets.map(|file| file.path().into()),
        ..HttpSettings::default()
    };
    crate::domain::driver::Driver::Http(Box::new(settings.clone())).check().unwrap();
    HttpSwitch::new(&settings)
}

/// Switches off and on, and reads back each time.
async fn switches(switch: &HttpSwitch, name: &str, delivering: impl Fn(bool) -> Option<bool>) {
    let port = port(name);
    assert!(switch.reads_back());
    for power in [Power::Off, Power::On, Power::Off] {
        switch.set(&port, power).await.unwrap();
        let on = power == Power::On;
        assert_eq!(switch.read(&port).await, Ok(Reading { on, delivering: delivering(on) }));
    }
}

#[tokio::test]
async fn shelly_of_the_second_generation_is_switched_and_measured() {
    let mut on = true;
    let url = serve(move |asked| {
        let frame = asked.json();
        assert_eq!((asked.at().as_str(), &frame["params"]["id"]), ("POST /rpc", &json!(0)));
        let result = match frame["method"].as_str().unwrap() {
            "Switch.Set" => {
                let was = std::mem::replace(&mut on, frame["params"]["on"].as_bool().unwrap());
                json!({"was_on": was})
            }
            "Switch.GetStatus" => json!({"id": 0, "output": on, "apower": if on { 4.25 } else { 0.0 }}),
            other => panic!("{other}"),
        };
        says(200, json!({"id": 1, "src": "shelly", "result": result}))
    })
    .await;
    let switch = preset(HttpPreset::Shelly, &url, None);
    switches(&switch, "0", |_| None).await;
    switch.set(&port("0"), Power::On).await.unwrap();
    assert_eq!(switch.view(&port("0")).await.unwrap().milliwatts, Some(4250));
}

#[tokio::test]
async fn shelly_of_the_first_generation_is_switched() {
    let mut on = true;
    let url = serve(move |asked| {
        assert_eq!(asked.header("authorization"), "Basic cm9vdDpw");
        match asked.at().as_str() {
            "GET /relay/0?turn=on" => on = true,
            "GET /relay/0?turn=off" => on = false,
            "GET /relay/0" => {}
            other => panic!("{other}"),
        }
        says(200, json!({"ison": on, "has_timer": false}))
    })
    .await;
    let secrets = secrets();
    switches(&preset(HttpPreset::ShellyGen1, &url, Some(&secrets)), "0", |_| None).await;
}

#[tokio::test]
async fn tasmota_is_switched_with_one_relay_and_with_many() {
    for (name, key) in [("1", "POWER"), ("2", "POWER2")] {
        let mut on = true;
        let url = serve(move |asked| {
            let login = format!("user=root&password={}&", secrets::in_url(PASSWORD));
            let query = asked.uri.query().unwrap().strip_prefix(&login).expect("the password is shown");
            match query.strip_prefix(&format!("cmnd=Power{name}")).unwrap() {
                "%20On" => on = true,
                "%20Off" => on = false,
                "" => {}
                other => panic!("{other}"),
            }
            says(200, json!({key: if on { "ON" } else { "OFF" }}))
        })
        .await;
        let secrets = secrets();
        switches(&preset(HttpPreset::Tasmota, &url, Some(&secrets)), name, |_| None).await;
    }
}

#[tokio::test]
async fn home_assistant_is_switched_and_what_it_does_not_know_is_asked_again() {
    let mut state = "on";
    let url = serve(move |asked| {
        assert_eq!(asked.header("authorization"), format!("Bearer {TOKEN}"));
        match asked.at().as_str() {
            "POST /api/services/homeassistant/turn_on" => state = "on",
            "POST /api/services/homeassistant/turn_off" => state = "off",
            "GET /api/states/switch.pi_7" => {}
            "GET /api/states/switch.gone" => return says(200, json!({"state": "unavailable"})),
            other => panic!("{other}"),
        }
        says(200, json!({"entity_id": "switch.pi_7", "state": state}))
    })
    .await;
    let secrets = secrets();
    let switch = preset(HttpPreset::HomeAssistant, &url, Some(&secrets));
    switches(&switch, "switch.pi_7", |_| None).await;
    let gone = switch.read(&port("switch.gone")).await;
    assert!(matches!(&gone, Err(PowerError::Unreachable(why)) if why.contains("unavailable")), "{gone:?}");
}

#[tokio::test]
async fn openwrt_is_logged_into_again_when_its_session_is_over() {
    let (mut enabled, mut sessions, mut asks) = (true, 0, 0);
    let url = serve(move |asked| {
        let frame = asked.json();
        let params = &frame["params"];
        let answer = |result: Value| says(200, json!({"jsonrpc": "2.0", "id": 1, "result": result}));
        if params[1] == "session" {
            assert_eq!(params[3], json!({"username": "root", "password": PASSWORD}));
            sessions += 1;
            return answer(json!([0, {"ubus_rpc_session": format!("session-{sessions}")}]));
        }
        asks += 1;
        if params[0] != format!("session-{sessions}") || asks % 3 == 0 {
            let error = json!({"code": -32002, "message": "Access denied"});
            return says(200, json!({"jsonrpc": "2.0", "id": 1, "error": error}));
        }
        if params[2] == "manage" {
            assert_eq!(params[3]["port"], "lan7");
            enabled = params[3]["enable"].as_bool().unwrap();
            return answer(json!([0]));
        }
        let status = if enabled { "Delivering power" } else { "Disabled" };
        answer(json!([0, {"ports": {"lan7": {"status": status, "consumption": 3.1}}}]))
    })
    .await;
    let secrets = secrets();
    switches(&preset(HttpPreset::Ubus, &url, Some(&secrets)), "lan7", Some).await;
}

/// A switch of one's own requests with a login that keeps a cookie and a token.
fn own(url: &str, secrets: &tempfile::NamedTempFile) -> HttpSettings {
    let request = |path: &str, body: Option<&str>| HttpRequest {
        url: format!("{url}{path}"),
        headers: [("X-Token".to_owned(), "{token}".to_owned())].into(),
        body: body.map(str::to_owned),
        success: HttpSuccess {
            status: vec![],
            answer: Some(HttpMeaning {
                pointer: "/ok".into(),
                yes: vec![json!(true)],
                ..HttpMeaning::default()
            }),
        },
        ..HttpRequest::default()
    };
    let form = HttpRequest {
        url: format!("{url}/login"),
        headers: [("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())].into(),
        body: Some("user={secret.user}&password={secret.password}".into()),
        ..HttpRequest::default()
    };
    HttpSettings {
        secrets: Some(secrets.path().into()),
        on: Some(request("/port/{port}/{action}", Some("{\"node\":\"{node}\"}"))),
        off: Some(request("/port/{port}/{action}", Some("{}"))),
        login: Some(HttpLogin { request: form, token: Some("/token".into()), ..HttpLogin::default() }),
        ..HttpSettings::default()
    }
}

/// How a switch of one's own requests answers, at the login and after it, and what the driver makes of it.
async fn fault(login: u16, after: u16, ok: Value) -> Result<(), PowerError> {
    let url = serve(move |asked| match asked.uri.path() {
        "/login" => {
            let form = format!("user=root&password={}", secrets::in_url(PASSWORD));
            assert_eq!(asked.body, form);
            let mut answer = says(login, json!({"token": TOKEN, "echo": PASSWORD, "form": form}));
            answer.headers_mut().insert("set-cookie", "sid=c00kie; Path=/; HttpOnly".parse().unwrap());
            answer
        }
        _ => {
            assert_eq!((asked.header("cookie"), asked.header("x-token")), ("sid=c00kie", TOKEN));
            assert_eq!(asked.at(), "POST /port/1%2F7/on");
            says(after, json!({"ok": ok, "echo": [PASSWORD, TOKEN, "c00kie", secrets::in_url(PASSWORD)]}))
        }
    })
    .await;
    let secrets = secrets();
    let switch = HttpSwitch::new(&own(&url, &secrets));
    assert!(!switch.reads_back());
    let told = switch.set(&port("1/7"), Power::On).await;
    let text = format!("{told:?}");
    for secret in [PASSWORD, &secrets::in_url(PASSWORD), &secrets::in_json(PASSWORD), TOKEN, "c00kie"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    told
}

#[tokio::test]
async fn answers_are_told_apart_and_never_tell_a_secret() {
    assert_eq!(fault(200, 200, json!(true)).await, Ok(()));
    for (login, after, ok, again, expected) in [
        (200, 200, json!(false), false, "`on`: status 200 and {"),
        (200, 404, json!(true), false, "`on`: status 404 and {"),
        (200, 401, json!(true), false, "`on`: status 401 and {"),
        (200, 302, json!(true), false, "`on`: status 302 and {"),
        (200, 500, json!(true), true, "`on`: status 500 and {"),
        (200, 429, json!(true), true, "`on`: status 429 and {"),
        (403, 200, json!(true), false, "`on`: login: status 403 and {"),
        (503, 200, json!(true), true, "`on`: login: status 503 and {"),
    ] {
        let told = fault(login, after, ok).await.unwrap_err();
        assert_eq!(matches!(told, PowerError::Unreachable(_)), again, "{told}");
        assert!(told.to_string().contains(expected), "{told}");
        assert!(told.to_string().contains("***"), "{told}");
    }
}

#[tokio::test]
async fn an_ended_session_is_opened_again_once() {
    let mut logins = 0;
    let mut asks = 0;
    let counted = Arc::new(Mutex::new((0, 0)));
    let shown = counted.clone();
    let url = serve(move |asked| {
        let is_login = asked.uri.path() == "/login";
        if is_login {
            logins += 1
        } else {
            asks += 1
        }
        *shown.lock().unwrap() = (logins, asks);
        match (is_login, asks) {
            (true, _) => says(200, json!({"token": format!("t{logins}")})),
            (false, 2 | 4..) => says(401, json!({})),
            _ => says(200, json!({"ok": asked.header("x-token") == format!("t{logins}")})),
        }
    })
    .await;
    let secrets = secrets();
    let switch = HttpSwitch::new(&own(&url, &secrets));
    switch.set(&port("1"), Power::On).await.unwrap();
    switch.set(&port("1"), Power::On).await.unwrap();
    assert_eq!(*counted.lock().unwrap(), (2, 3), "the second request needed another login");
    assert!(matches!(switch.set(&port("1"), Power::On).await, Err(PowerError::Refused(_))));
    assert_eq!(*counted.lock().unwrap(), (3, 5), "a switch that refuses a fresh login is not asked again");
}

#[tokio::test]
async fn silence_is_no_answer() {
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings =
        HttpSettings { preset: Some(HttpPreset::Shelly), url: Some(url), ..HttpSettings::default() };
    let hung = HttpSwitch::with_limit(&settings, Duration::from_millis(50)).set(&port("0"), Power::On).await;
    assert!(matches!(hung, Err(PowerError::Unreachable(_))), "{hung:?}");
    drop(listener);
    let gone = HttpSwitch::new(&settings).set(&port("0"), Power::On).await;
    assert!(matches!(gone, Err(PowerError::Unreachable(_))), "{gone:?}");
}

#[tokio::test]
async fn a_secrets_file_that_others_can_read_is_refused() {
    let secrets = secrets();
    let ask = async |text: Option<&str>, mode| {
        if let Some(text) = text {
            std::fs::write(secrets.path(), text).unwrap();
        }
        std::fs::set_permissions(secrets.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let switch = HttpSwitch::new(&own("http://127.0.0.1:1", &secrets));
        switch.set(&port("1"), Power::On).await.unwrap_err().to_string()
    };
    let public = ask(None, 0o640).await;
    assert!(public.contains("has mode 640: `chmod 600"), "{public}");
    let wrong = ask(Some("password = hunter2\n"), 0o600).await;
    assert!(wrong.contains("not what it should be") && !wrong.contains("hunter2"), "{wrong}");
    let missing = ask(Some("user = 'root'\n"), 0o600).await;
    assert!(missing.contains("has no `password`"), "{missing}");
}
