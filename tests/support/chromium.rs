//! Headless Chromium, driven over WebDriver (W3C) by blocking HTTP.

use super::guarded::{self, Guarded};
use super::http::Http;
use super::{SOON, TempDir, free_port, listening, wait_until};
use serde_json::{Value, json};
use std::process::Stdio;

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub struct Chromium {
    driver: Http,
    session: String,
    process: Guarded,
    // The last field, so that it is removed after the browser that writes to it has ended.
    dir: TempDir,
}

impl Chromium {
    /// Starts it.
    pub fn start() -> Self {
        let dir = TempDir::new("chromium");
        let port = free_port();
        let mut command = guarded::command("chromedriver", Some(dir.path()));
        command
            .arg(format!("--port={port}"))
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Guarded::spawn(&mut command);
        wait_until(SOON, "chromedriver (apt install chromium-driver)", || {
            listening(port)
        });
        let driver = Http::new(([127, 0, 0, 1], port).into());
        let arguments = [
            "--headless=new",
            // Tests run as root in containers, too; what is shown is our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self {
            driver,
            session: String::new(),
            process,
            dir,
        };
        let answer = browser.command("POST", "/session", &wanted);
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    /// Goes there and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// The value of this JavaScript, a function's body.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Whether this expression is true.
    pub fn holds(&self, expression: &str) -> bool {
        self.run(&format!("return !!({expression})")) == json!(true)
    }

    /// The text of the first element that fits.
    pub fn text(&self, selector: &str) -> String {
        let text = self.run(&format!(
            "return document.querySelector({selector:?}).textContent"
        ));
        text.as_str().unwrap().to_owned()
    }

    /// Presses keys, as a person without a mouse does; `\u{E004}` is Tab, `\u{E007}` Enter.
    pub fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
            })
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.post("/actions", &json!({"actions": [keyboard]}));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": params}),
        )
    }

    /// Width and height of the page, in CSS pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &params);
    }

    /// Messages on the console since the last call, of level warning or higher.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().unwrap().iter();
        entries
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("{}{path}", self.session), body)
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let kind = "Content-Type: application/json\r\n";
        let answer = self.driver.request(method, path, kind, body.as_bytes());
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        answer.json()["value"].take()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.session.is_empty() {
            self.driver.request("DELETE", &self.session, "", b"");
        }
        self.process.kill();
    }
}
