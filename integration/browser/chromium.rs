//! A headless Chromium and one tab of it: JSON messages, each ended by a zero byte, over two named pipes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use dce::kafka::Deadline;
use serde_json::{Value, json};

use crate::harness::WAIT;

/// By what names distributions call it.
const PROGRAMS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

pub(crate) struct Tab {
    process: Child,
    folder: PathBuf,
    to: File,
    from: Receiver<Value>,
    session: String,
    calls: u64,
    /// What was complained of in the console, and where it went on the net.
    pub(crate) complaints: Vec<String>,
    pub(crate) asked: Vec<String>,
}

impl Tab {
    pub(crate) fn open() -> Self {
        static TABS: AtomicU32 = AtomicU32::new(0);
        let name = format!("chromium-{}-{}", std::process::id(), TABS.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (into, out) = (folder.join("in"), folder.join("out"));
        let made = Command::new("mkfifo").args([&into, &out]).status();
        assert!(made.expect("mkfifo runs").success(), "two named pipes");
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --hide-scrollbars --disable-dev-shm-usage \
                      --no-first-run --disable-background-networking --remote-debugging-pipe \
                      --user-data-dir=\"$1/profile\" about:blank 3<\"$1/in\" 4>\"$1/out\"";
        let process = Command::new("bash")
            .args(["-c", script, &program()])
            .arg(&folder)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).expect("a log file"))
            .spawn()
            .expect("bash runs");
        let to = File::options().write(true).open(&into).expect("the browser opens its pipes");
        let mut reader = BufReader::new(File::open(&out).expect("the browser opens its pipes"));
        let (sender, from) = sync_channel(10_000);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let session = String::new();
        let mut tab = Self { process, folder, to, from, session, calls: 0, complaints: Vec::new(), asked: Vec::new() };
        let target = tab.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = tab.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut tab.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        tab
    }

    /// A screen so wide, in CSS pixels, and the colours that its system prefers.
    pub(crate) fn screen(&mut self, width: u32, height: u32, colours: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    pub(crate) fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// What a piece of JavaScript gives.
    pub(crate) fn look(&mut self, script: &str) -> Value {
        let answer = self.call("Runtime.evaluate", &json!({ "expression": script, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{script}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, script: &str) -> String {
        self.look(script).as_str().unwrap_or_else(|| panic!("{script} gives no text")).to_owned()
    }

    /// Until a piece of JavaScript gives true.
    pub(crate) fn until(&mut self, script: &str) {
        let deadline = Deadline::after(WAIT);
        while self.look(script) != json!(true) {
            assert!(!deadline.passed(), "not after {WAIT:?}: {script}\n{}\n{:?}", self.body(), self.complaints);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key, "code": key }));
        }
    }

    pub(crate) fn body(&mut self) -> String {
        self.text("document.body.innerText")
    }

    /// The whole page as a picture beside the other files of the tests.
    pub(crate) fn picture(&mut self, name: &str) {
        let answer = self.call("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let bytes = of_base64(answer["data"].as_str().expect("a picture"));
        assert_eq!(&bytes[1..4], b"PNG");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("monitor-{name}.png"));
        std::fs::write(path, bytes).expect("it can be written");
    }

    fn call(&mut self, method: &str, arguments: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": arguments });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser is there");
        loop {
            let answer = match self.from.recv_timeout(WAIT) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no answer after {WAIT:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                    panic!("{method}: the browser ended; it said:\n{log}")
                }
            };
            if answer["id"] == json!(self.calls) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.complaints.push(parameters["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" => self.complaints.push(parameters.to_string()),
            "Log.entryAdded" => self.complaints.push(parameters["entry"].to_string()),
            "Network.requestWillBeSent" => {
                self.asked.push(parameters["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn program() -> String {
    let named = std::env::var("DCE_TEST_BROWSER").ok();
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    named.or_else(|| PROGRAMS.into_iter().find(is_there).map(str::to_owned)).unwrap_or_else(|| {
        panic!(
            "no Chromium: run deploy/setup/packages.sh test, or name one by DCE_TEST_BROWSER; looked for {}",
            PROGRAMS.join(", ")
        )
    })
}

fn of_base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits =
            four.iter().fold(0_u32, |bits, letter| bits << 6 | u32::from(digit(*letter))) << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
