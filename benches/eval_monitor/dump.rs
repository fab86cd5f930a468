//! Windows of some streams in a file, for the peers: lines of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use dce::drift::window::Window;
use serde_json::json;

use crate::bank::DAY_MS;
use crate::stream::{Event, SMALL, Stream, WINDOW_MS};

/// Streams that are written, and those whose quiet day is, too.
pub(crate) const STREAMS: u64 = 10;
const QUIET_STREAMS: u64 = 4;
/// Of the week before, one window in so many.
const REFERENCE_ONE_IN: i64 = 12;
const TWO_HOURS: i64 = 24;

#[derive(Debug)]
pub(crate) struct Dump(BufWriter<File>);

impl Dump {
    pub(crate) fn create(path: &Path) -> Self {
        Self(BufWriter::new(File::create(path).expect("the file of windows can be made")))
    }

    /// The week before, the hours before, the day after if nothing happens, and the two hours after each event.
    pub(crate) fn write(&mut self, number: u64, stream: &Stream, onset_ms: i64, events: &[(&str, Event<'_>)]) {
        let day = DAY_MS / WINDOW_MS;
        let nothing = Event::default();
        self.part(number, "reference", stream, onset_ms, (-7 * day..0).step_by(REFERENCE_ONE_IN as usize), &nothing);
        self.part(number, "lead", stream, onset_ms, -TWO_HOURS..0, &nothing);
        if number < QUIET_STREAMS {
            self.part(number, "quiet", stream, onset_ms, 0..day, &nothing);
        }
        for (name, event) in events {
            self.part(number, name, stream, onset_ms, 0..TWO_HOURS, event);
        }
    }

    fn part(
        &mut self,
        number: u64,
        name: &str,
        stream: &Stream,
        onset_ms: i64,
        windows: impl Iterator<Item = i64>,
        event: &Event<'_>,
    ) {
        let mut stream = stream.clone();
        for window in windows {
            let all = stream.windows(onset_ms + window * WINDOW_MS, event);
            for (part, window) in [("all", &all[0]), ("small", &all[SMALL])] {
                let line = json!({ "stream": number, "scenario": name, "part": part, "counts": counts(window) });
                writeln!(self.0, "{line}").expect("the file of windows can be written");
            }
        }
    }
}

/// By bucket; −1 is exactly 0.
fn counts(window: &Window) -> Vec<(i64, u64)> {
    let zero = Some((-1, window.shifts.zero())).filter(|(_, count)| *count > 0);
    zero.into_iter().chain(window.shifts.filled().map(|(bucket, count)| (bucket as i64, count))).collect()
}
