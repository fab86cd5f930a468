//! The columns of each kind of record, for people. What does not fit its column pushes the others aside: nothing that
//! names somebody is cut.

use crate::cli::moments;
use crate::cli::paint::{bytes_line, line};
use crate::kafka::follow::Kept;
use crate::wire::click::Input;
use crate::wire::embedding::{CustomerEmbedding, EmbeddingKind, SessionSummary};

/// How many of an embedding's numbers are shown.
const NUMBERS: usize = 4;
const NAME_CHARS: usize = 64;

fn name(text: &str) -> String {
    line(text, NAME_CHARS)
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), name)
}

#[expect(clippy::too_many_arguments, reason = "the columns")]
fn embedding_row(
    customer: &str,
    sequence: &str,
    kind: &str,
    closed: &str,
    events: &str,
    shift: &str,
    gate: &str,
    age: &str,
    channel: &str,
    model: &str,
    vector: &str,
) -> String {
    format!(
        "{customer:<20}  {sequence:>5}  {kind:<11}  {closed:<12}  {events:>6}  {shift:>7}  {gate:>5}  {age:>7}  {channel:<8}  {model:<20}  {vector}"
    )
}

pub(super) fn embedding_head() -> String {
    embedding_row(
        "CUSTOMER",
        "SEQ",
        "KIND",
        "CLOSED",
        "EVENTS",
        "SHIFT",
        "GATE",
        "AGE",
        "CHANNEL",
        "MODEL",
        "EMBEDDING",
    )
}

pub(super) fn embedding(record: &CustomerEmbedding) -> String {
    let cause = &record.cause;
    let kind = match record.kind {
        EmbeddingKind::Provisional => "provisional".to_owned(),
        EmbeddingKind::SessionClosed => "closed".to_owned(),
        EmbeddingKind::SessionRevised => format!("revised {}", cause.revision),
    };
    let first: Vec<String> = record.embedding.iter().take(NUMBERS).map(|number| format!("{number:+.3}")).collect();
    let more = if record.embedding.len() > NUMBERS { " …" } else { "" };
    embedding_row(
        &name(record.customer_id.as_str()),
        &record.sequence.to_string(),
        &kind,
        cause.close_reason.map_or("open", |reason| reason.as_str()),
        &cause.event_count.to_string(),
        &record.cosine_shift.map_or_else(|| "-".to_owned(), |shift| format!("{shift:.4}")),
        &format!("{:.2}", record.gate),
        &moments::span(record.emitted_at.saturating_sub(record.as_of.ms())),
        &optional(cause.channel.as_deref()),
        &name(record.model.as_str()),
        &format!("[{}{more}] {}", first.join(" "), record.embedding.len()),
    )
}

fn session_row(
    customer: &str,
    sequence: &str,
    key: &str,
    why: &str,
    revision: &str,
    events: &str,
    lasted: &str,
) -> String {
    format!("{customer:<20}  {sequence:>5}  {why:<22}  {revision:>3}  {events:>6}  {lasted:>7}  {key}")
}

pub(super) fn session_head() -> String {
    session_row("CUSTOMER", "SEQ", "KEY", "OPENED → CLOSED", "REV", "EVENTS", "LASTED")
}

pub(super) fn session(record: &SessionSummary) -> String {
    let cause = &record.cause;
    let closed = cause.close_reason.map_or("open", |reason| reason.as_str());
    session_row(
        &name(record.customer_id.as_str()),
        &record.sequence.to_string(),
        &name(&record.session_key),
        &format!("{} → {closed}", cause.opened_by.as_str()),
        &cause.revision.to_string(),
        &cause.event_count.to_string(),
        &moments::span(cause.session_end.ms().saturating_sub(cause.session_start.ms())),
    )
}

fn click_row(customer: &str, kind: &str, what: &str, age: &str, channel: &str, session: &str, event: &str) -> String {
    format!("{customer:<20}  {kind:<9}  {what:<24}  {age:>7}  {channel:<8}  {session:<24}  {event}")
}

pub(super) fn click_head() -> String {
    click_row("CUSTOMER", "KIND", "NAME", "AGE", "CHANNEL", "SESSION", "EVENT")
}

pub(super) fn click(key: &str, input: &Input<'_>, timestamp_ms: Option<i64>) -> String {
    let age = |event_ms: i64| {
        timestamp_ms.map_or_else(|| "-".to_owned(), |timestamp_ms| moments::span(timestamp_ms.saturating_sub(event_ms)))
    };
    match input {
        Input::Tick(time) => click_row("-", "TICK", &moments::text(time.ms()), &age(time.ms()), "-", "-", "-"),
        Input::Click(click) => {
            // The key says who, unless they disagree.
            let customer = click.customer_id.as_deref().map(name).unwrap_or_default();
            let who = if customer == key { customer } else { format!("{customer} (key {key})") };
            let session = click.session_id.as_deref().or(click.device_id.as_deref());
            click_row(
                &who,
                click.kind.as_str(),
                if click.name.is_empty() { "-".to_owned() } else { name(&click.name) }.as_str(),
                &age(click.event_time.ms()),
                &optional(click.channel.as_deref()),
                &optional(session),
                &name(&click.event_id),
            )
        }
    }
}

fn rejected_row(key: &str, reason: &str, from: &str, detail: &str, value: &str) -> String {
    format!("{key:<20}  {reason:<9}  {from:<24}  {detail}  {value}")
}

pub(super) fn rejected_head() -> String {
    rejected_row("KEY", "REASON", "FROM", "DETAIL", "VALUE")
}

/// By its headers; one without them is shown all the same.
pub(super) fn rejected(key: &str, kept: &Kept) -> String {
    let header = |header: &str| kept.header(header).map_or_else(|| "?".to_owned(), |text| line(&text, 120));
    if let Some(to) = kept.header("dce-resent-to") {
        let from = kept.header("dce-resent-from").unwrap_or_default();
        return rejected_row(
            "-",
            "resent",
            &line(&from, NAME_CHARS),
            &format!("sent back as {}", line(&to, NAME_CHARS)),
            "",
        );
    }
    let from =
        format!("{}/{}@{}", header("dce-source-topic"), header("dce-source-partition"), header("dce-source-offset"));
    let value = match (&kept.value, kept.header("dce-value-left-out")) {
        (_, Some(bytes)) => format!("({} bytes left out)", line(&bytes, 20)),
        (None, None) => "null".to_owned(),
        (Some(value), None) => bytes_line(value, 60),
    };
    rejected_row(key, &header("dce-reason"), &from, &header("dce-detail"), &value)
}
