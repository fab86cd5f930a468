//! A broker of one's own, which may be killed and frozen.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::WAIT;

/// It ends when its script reads the end of its input, so with this process at the latest.
pub(crate) struct Broker {
    script: Child,
    dir: PathBuf,
    pub(crate) bootstrap: String,
    condition: Condition,
}

enum Condition {
    Up,
    FrozenUntil(Instant),
    DownUntil(Instant),
    Starting(Child, Instant),
}

impl Broker {
    pub(crate) fn script() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/kafka.sh")
    }

    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With more lines in its properties.
    pub(crate) fn with(properties: &str) -> Self {
        let mut script = Command::new(Self::script())
            .args(["run", "--", "sh", "-c", r#"echo "$DCE_TEST_BOOTSTRAP"; echo "$DCE_TEST_KAFKA_DIR"; cat"#])
            // Not the one of the other tests.
            .env_remove("DCE_TEST_BOOTSTRAP")
            .env("DCE_TEST_KAFKA_PROPERTIES", properties)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("integration/kafka.sh runs");
        let mut said = BufReader::new(script.stdout.take().expect("its output")).lines();
        let mut line = || said.next().expect("a broker that starts: its script says why not").expect("UTF-8");
        let (bootstrap, dir) = (line(), PathBuf::from(line()));
        Self { script, dir, bootstrap, condition: Condition::Up }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.condition, Condition::Up)
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).expect("its pid");
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.expect("kill runs").success(), "the broker runs");
    }

    pub(crate) fn kill(&mut self, pause: Duration) {
        self.signal("KILL");
        self.condition = Condition::DownUntil(Instant::now() + pause);
    }

    pub(crate) fn freeze(&mut self, pause: Duration) {
        self.signal("STOP");
        self.condition = Condition::FrozenUntil(Instant::now() + pause);
    }

    /// What is due.
    pub(crate) fn tend(&mut self) {
        let now = Instant::now();
        match &mut self.condition {
            Condition::FrozenUntil(until) if *until <= now => {
                self.signal("CONT");
                self.condition = Condition::Up;
            }
            Condition::DownUntil(until) if *until <= now => {
                let again = Command::new(Self::script()).arg("start").arg(&self.dir).stdout(Stdio::null()).spawn();
                self.condition = Condition::Starting(again.expect("integration/kafka.sh runs"), now);
            }
            Condition::Starting(script, since) => match script.try_wait().expect("a child of ours") {
                Some(status) => {
                    assert!(status.success(), "the killed broker does not start again: {status}");
                    self.condition = Condition::Up;
                }
                None => assert!(since.elapsed() < WAIT * 2, "the killed broker starts for {:?}", since.elapsed()),
            },
            Condition::Up | Condition::FrozenUntil(_) | Condition::DownUntil(_) => {}
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Condition::Starting(script, _) = &mut self.condition {
            drop(script.wait());
        }
        drop(self.script.stdin.take());
        drop(self.script.wait());
    }
}
