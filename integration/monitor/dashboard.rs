//! The Grafana dashboard's queries, asked of a real Prometheus that scrapes a real monitor: each gives data.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use super::{HOUR_MS, Names, Pace, day, now_ms, past, until};
use crate::harness::Bed;
use crate::pipeline::get;

struct Prometheus {
    process: Child,
    folder: PathBuf,
    address: String,
}

impl Prometheus {
    fn scraping(target: &str, name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let set_up = Command::new(root.join("deploy/setup/promtool.sh")).output().expect("bash runs");
        let said = String::from_utf8_lossy(&set_up.stdout).into_owned();
        let program =
            PathBuf::from(said.lines().last().expect("it says where promtool is")).with_file_name("prometheus");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: dce, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        // Another one may take the port in between; nobody does.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { process, folder, address };
        until("Prometheus is ready", || prometheus.get("/-/ready").is_some());
        prometheus
    }

    /// `None` where it does not listen yet, or refuses.
    fn get(&self, path: &str) -> Option<String> {
        let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
        agent.get(format!("http://{}{path}", self.address)).call().ok()?.body_mut().read_to_string().ok()
    }

    /// What it answers to a query now: the samples.
    fn ask(&self, query: &str) -> Vec<Value> {
        self.answer(query, "query", "")
    }

    /// As a panel asks, since then: the series.
    fn panel(&self, query: &str, since_ms: i64) -> Vec<Value> {
        // In whole seconds, this one too.
        let span = format!("&start={}&end={}&step=1", since_ms / 1_000, now_ms() / 1_000 + 1);
        self.answer(query, "query_range", &span)
    }

    fn answer(&self, query: &str, what: &str, more: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = self.get(&format!("/api/v1/{what}?query={encoded}{more}"));
        let answer: Value = serde_json::from_str(&text.unwrap_or_else(|| panic!("{query} is refused"))).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        if !std::thread::panicking() {
            _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[test]
fn each_query_of_the_dashboard_gives_data() {
    let bed = Bed::new("dashboard");
    let pace = Pace::PAST;
    let names = Names::make(&bed, pace);
    let mut random = Pcg64Mcg::seed_from_u64(13);
    let end = pace.last_end(now_ms());
    let begin = end - 12 * HOUR_MS;
    // The page of a real deployment is watched while windows are counted: they are read once the first scrapes are there.
    names.produce(&bed, &past(&mut random, pace, begin), &[]);
    let mut monitor = names.dce(&bed, &["monitor"], &[]);
    let address = monitor.address();
    until("it is ready", || get(&address, "/ready").contains("200 OK"));
    let since = now_ms();
    let prometheus = Prometheus::scraping(&address, &bed.name("prometheus"));
    until("it is scraped", || !prometheus.ask("dce_drift_active == 1").is_empty());
    names.produce(&bed, &[], &day(&mut random, pace, begin..end, end - 2 * HOUR_MS..end));
    names.produce_of_now(&bed);
    until("the alert is scraped", || !prometheus.ask("max(dce_drift_alerts_open) > 0").is_empty());

    // Counters count what came since, and not the past that was read back.
    let counted = || -> f64 {
        let windows = prometheus.ask("sum(dce_drift_windows_total)");
        windows[0]["value"][1].as_str().unwrap().parse().unwrap()
    };
    until("the windows of twelve hours are counted", || counted() >= 3.0 * 72.0);
    // Said once a second, when the windows are out.
    until("how far it is behind is scraped", || !prometheus.ask("dce_drift_lag_records").is_empty());

    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dce-drift.json"));
    let dashboard: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$segment", "channel=web").replace("$__rate_interval", "1m");
            assert!(!prometheus.panel(&query, since).is_empty(), "{}: no data for {query}", panel["title"]);
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked} queries");
    let segments = prometheus.ask("count by (segment) (dce_drift_customers)");
    assert_eq!(segments.len(), 3, "the choice of segments: {segments:?}");
    assert!(counted() <= 3.0 * 76.0, "{} windows of 3 segments in 12 hours", counted());
    monitor.signal("TERM");
    assert!(monitor.wait().success(), "{}", monitor.last_words());
}
