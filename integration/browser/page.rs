//! What a person sees, on three screens, in each state of the monitor.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::json;

use super::chromium::Tab;

/// As `examples/monitor_page.rs` has it, and as it is to be read.
const HOSTILE: &str = "label.app=<img src=x onerror=\"document.title='owned'\">&amp;‹U+202E›gpj.exe";

/// The page over made-up windows.
struct Monitor {
    process: Child,
    input: ChildStdin,
    url: String,
}

impl Monitor {
    fn start(scene: &str) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_dce")).with_file_name("examples").join("monitor_page");
        assert!(program.is_file(), "{} is not built: cargo build --examples, or run make test", program.display());
        let mut process =
            Command::new(program).arg(scene).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut url = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut url).expect("its address");
        let input = process.stdin.take().expect("it is piped");
        Self { process, input, url: url.trim().to_owned() }
    }

    fn add_window(&mut self) {
        self.input.write_all(b"\n").expect("it listens");
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn open(monitor: &Monitor, width: u32, height: u32, colours: &str) -> Tab {
    let mut tab = Tab::open();
    tab.screen(width, height, colours);
    tab.go(&monitor.url);
    tab.until("document.querySelector('#state')?.dataset.state === 'live'");
    tab
}

fn assert_well(tab: &mut Tab, monitor: &Monitor) {
    assert_at_home(tab, &monitor.url);
}

/// Nothing was complained of or asked for elsewhere, and it fits the screen.
pub(super) fn assert_at_home(tab: &mut Tab, url: &str) {
    assert_eq!(tab.complaints, Vec::<String>::new());
    let elsewhere: Vec<&String> =
        tab.asked.iter().filter(|asked| !asked.starts_with(url) && !asked.starts_with("data:")).collect();
    assert!(elsewhere.is_empty(), "nothing is loaded from elsewhere: {elsewhere:?}");
    let overflow = tab.look("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, json!(0), "the page does not scroll sideways");
}

#[test]
fn a_wall_a_dark_desk_and_a_phone_show_the_same() {
    let monitor = Monitor::start("drift");
    for (name, width, height, colours) in [
        ("wall", 1920, 1080, "light"),
        ("desk-dark", 1280, 900, "dark"),
        ("phone", 390, 844, "light"),
        ("phone-dark", 390, 844, "dark"),
    ] {
        let mut tab = open(&monitor, width, height, colours);
        tab.picture(name);
        assert_eq!(tab.look("document.querySelectorAll('#segment-rows tr').length"), json!(10), "{name}");
        let body = tab.body();
        for text in [
            "Drift monitor",
            "label.app=8.2.0: embeddings move farther than usual: the median is 0.049, usually 0.026 (×1.90)",
            "10 windows beyond the threshold",
            "against the same hour in past weeks (40\u{202f}000 distances)",
            "27 %, before 11 %",
            "values in events that the model does not know: 21 %, before 0.50 %",
            "at most one false alarm in 30 days",
            "over after 75 min",
        ] {
            assert!(body.contains(text), "{name}: {text:?} is not on the page:\n{body}");
        }
        assert_eq!(tab.look("document.querySelectorAll('#alerts .alert').length"), json!(2), "{name}");
        assert!(tab.text("document.title").starts_with("▲ 2 open"), "{name}");
        let page = tab.text("getComputedStyle(document.documentElement).backgroundColor");
        assert_eq!(page == "rgb(242, 244, 247)", colours == "light", "{name}: {page}");
        let wide = tab.look(
            "Math.min(...['distribution', 'time'].map((id) => document.querySelector(`#${id} svg`).clientWidth / document.querySelector(`#${id}`).clientWidth))",
        );
        assert!(wide.as_f64().unwrap() > 0.9, "{name}: the pictures fill their place: {wide}");
        assert_well(&mut tab, &monitor);
    }
}

/// Pictures are drawn for the width that their place has now.
pub(super) const IS_DRAWN: &str = "['#distribution', '#time'].every((it) => { const place = document.querySelector(it); \
    const picture = place.querySelector('svg[role=img], .lanes svg, #lanes svg').getBoundingClientRect(); \
    const right = Math.max(...[...place.querySelectorAll('svg line, svg text')].map((part) => part.getBoundingClientRect().right)); \
    return place.getBoundingClientRect().right <= innerWidth && right <= place.getBoundingClientRect().right && right > picture.left + 0.85 * picture.width; })";

#[test]
fn a_screen_that_turns_or_shrinks_is_drawn_anew() {
    let monitor = Monitor::start("drift");
    let mut tab = open(&monitor, 1920, 1080, "light");
    for (width, height) in [(1920, 1080), (390, 844), (844, 390), (1280, 900), (390, 844), (1920, 1080)] {
        tab.screen(width, height, "light");
        tab.until(&format!("innerWidth === {width} && {IS_DRAWN}"));
        assert_well(&mut tab, &monitor);
    }
}

#[test]
fn names_and_words_from_clicks_are_text() {
    let monitor = Monitor::start("drift");
    let mut tab = open(&monitor, 1280, 900, "light");
    let row = "[...document.querySelectorAll('#segment-rows tr')].find((row) => row.textContent.includes('onerror'))";
    assert_eq!(tab.text(&format!("{row}.querySelector('bdi').textContent")), HOSTILE);
    tab.look(&format!("{row}.querySelector('button').click()"));
    tab.until("document.querySelector('#detail-title').textContent.includes('onerror')");
    assert_eq!(tab.text("document.querySelector('#detail-title bdi').textContent"), HOSTILE);
    assert!(tab.text("location.hash").contains("%3Cimg"), "the address names the segment, encoded");
    assert_eq!(tab.look("document.querySelectorAll('img, b').length"), json!(0), "no name became an element");
    assert!(tab.text("document.title").contains("Drift monitor"));
    assert!(
        tab.body().contains(&format!("{HOSTILE}: 6.0 % of the embeddings did not move at all")),
        "an alert's words are text too"
    );
    // The address leads there again.
    let url = tab.text("location.href");
    tab.go("about:blank");
    tab.go(&url);
    tab.until("document.querySelector('#detail-title')?.textContent.includes('onerror') === true");
    assert_well(&mut tab, &monitor);
}

#[test]
fn keys_alone_reach_every_window() {
    let monitor = Monitor::start("drift");
    let mut tab = open(&monitor, 1280, 900, "light");
    let told = "document.querySelector('#lanes').getAttribute('aria-valuetext')";
    let newest = tab.text(told);
    assert!(newest.contains("beyond threshold") && newest.contains(" customers · p50 0.0"), "{newest}");
    tab.look("document.querySelector('#lanes').focus()");
    tab.key("ArrowLeft");
    assert_eq!(tab.text(told), newest, "the first step is to the newest");
    tab.key("ArrowLeft");
    let before = tab.text(told);
    assert_ne!(before, newest);
    assert_eq!(tab.text("document.querySelector('#readout').textContent"), before);
    tab.key("Home");
    tab.key("Enter");
    assert_eq!(tab.look("document.querySelectorAll('#moments button').length"), json!(3), "the window is pinned");
    let pinned = tab.text("document.querySelector('#moments [aria-pressed=true]').textContent");
    assert!(tab.text("document.querySelector('#distribution .legend').textContent").contains(&pinned));
    tab.key("Escape");
    assert_eq!(tab.look("document.querySelectorAll('#moments button').length"), json!(2));
    // Everything to press has a name, and every picture that is not decoration too.
    let nameless = tab.look(
        "[...document.querySelectorAll('button, input, [role=slider], svg[role=img]')].filter((it) => \
         !(it.getAttribute('aria-label') ?? it.closest('label')?.textContent ?? it.textContent).trim() && !it.textContent.trim()).length",
    );
    assert_eq!(nameless, json!(0));
    tab.look("document.querySelector('#theme').click()");
    assert_eq!(tab.text("document.documentElement.dataset.theme"), "light");
    tab.look("document.querySelector('#theme').click()");
    assert_eq!(tab.text("getComputedStyle(document.documentElement).backgroundColor"), "rgb(11, 17, 23)");
    assert_well(&mut tab, &monitor);
}

#[test]
fn new_windows_come_without_flicker_and_a_dead_monitor_is_seen() {
    let mut monitor = Monitor::start("drift");
    let mut tab = open(&monitor, 1280, 900, "light");
    let state = "document.querySelector('#state-text').textContent";
    let before = tab.text(state);
    tab.look("document.querySelector('#filter').value = 'all'; document.querySelector('#filter').focus()");
    tab.look("window.kept = [...document.querySelectorAll('#segment-rows tr, #lanes, #ranges button')]");
    monitor.add_window();
    tab.until(&format!("{state} !== '{before}'"));
    assert!(tab.text(state).starts_with("live · window until "));
    assert_eq!(tab.look("document.querySelectorAll('#segment-rows tr').length"), json!(1), "the filter stays");
    let stays = "window.kept.filter((it) => it.isConnected).length >= 4 && document.activeElement.id === 'filter'";
    assert_eq!(tab.look(stays), json!(true), "elements and the focus stay");
    assert_well(&mut tab, &monitor);
    let shown = tab.text("document.querySelector('#detail-title').textContent");
    drop(monitor);
    tab.until("document.querySelector('#state').dataset.state === 'bad'");
    assert!(tab.text(state).starts_with("the monitor does not answer (since "));
    assert_eq!(tab.look("document.body.classList.contains('stale')"), json!(true));
    assert_eq!(tab.text("document.querySelector('#detail-title').textContent"), shown, "what was known is still there");
    tab.picture("dead");
}

#[test]
fn before_there_is_anything_it_says_why() {
    for (scene, state, words) in [
        ("empty", "live · no window yet", "A window holds 5 min of closed sessions"),
        ("standby", "stands by: another instance is active", "This instance stands by"),
        ("restoring", "restores its past windows", "Reading past windows back"),
    ] {
        let monitor = Monitor::start(scene);
        let mut tab = Tab::open();
        tab.screen(390, 844, "light");
        tab.go(&monitor.url);
        tab.until(&format!("document.querySelector('#state-text')?.textContent === '{state}'"));
        let body = tab.body();
        assert!(body.contains(words), "{scene}: {body}");
        assert_eq!(tab.look("document.querySelector('#panes').hidden"), json!(true), "{scene}");
        tab.picture(scene);
        assert_well(&mut tab, &monitor);
    }
    let monitor = Monitor::start("one");
    let mut tab = open(&monitor, 1280, 900, "dark");
    let body = tab.body();
    assert!(
        body.contains("no reference yet") && body.contains("no score: too few customers, or no reference"),
        "{body}"
    );
    assert_eq!(tab.look("document.querySelectorAll('#alerts > *').length"), json!(0));
    tab.picture("one");
    assert_well(&mut tab, &monitor);
}

#[test]
fn a_kafka_that_is_away_is_not_taken_for_another_instance() {
    let monitor = Monitor::start("away");
    let mut tab = Tab::open();
    tab.screen(1280, 900, "light");
    tab.go(&monitor.url);
    tab.until("document.querySelector('#state')?.dataset.state === 'bad'");
    let said = tab.text("document.querySelector('#state-text').textContent");
    assert!(said.starts_with("Kafka does not answer (since "), "{said}");
    assert_eq!(tab.look("document.body.classList.contains('stale')"), json!(true), "what is known is of before");
    assert_eq!(tab.look("document.querySelector('#panes').hidden"), json!(false));
    tab.picture("away");
    assert_well(&mut tab, &monitor);
}
