//! What the stream does not say: whose a session was, what the next one is for, who calls. Beside the stream, never in it.

use std::borrow::Cow;
use std::sync::Arc;

use super::open::Session;
use super::plan::Visitor;
use super::scenario::World;

/// One answer for one task; a row of `labels.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// `owner`: 1 if the session is not the customer's own. `takeover`: of which kind such a session is.
    /// `next_session`: the page that tells what the next session was for. `label`: 1 if the customer calls the call
    /// centre within two days.
    pub task: &'static str,
    pub customer_id: Arc<str>,
    /// Of an `owner` or `takeover` row whose session has one.
    pub session_id: Option<Arc<str>>,
    /// Within the session (`owner`, `takeover`), or the moment for which the answer holds: what came before it may be known.
    pub event_time: i64,
    pub label: Cow<'static, str>,
    /// By time: `train`, then `valid`, then `test`.
    pub split: &'static str,
}

impl Label {
    pub const HEADER: &'static str = "task,customer_id,session_id,event_time,label,split";

    /// Whether it says that a session is a thief's.
    pub fn is_stolen(&self) -> bool {
        self.task == "owner" && self.label == "1"
    }
}

/// What there is to say of a session when its last event is out. `split` goes by event time.
pub(super) fn of_session(
    session: &Session,
    world: &World,
    split: impl Fn(i64) -> &'static str,
    labels: &mut Vec<Label>,
) {
    let plan = &session.plan;
    let mut put = |task, session_id, event_time, label| {
        let customer_id = Arc::clone(&session.customer_id);
        labels.push(Label { task, customer_id, session_id, event_time, label, split: split(event_time) });
    };
    let flag = |yes: bool| Cow::Borrowed(if yes { "1" } else { "0" });
    put("owner", plan.session_id.clone(), plan.start(), flag(plan.takeover.is_some()));
    if let Some(kind) = plan.takeover {
        put("takeover", plan.session_id.clone(), plan.start(), Cow::Borrowed(kind.as_str()));
    }
    if matches!(plan.visitor, Visitor::Owner | Visitor::Again) {
        if plan.ordinal > 0 {
            let telling = world.name(plan.intent.telling(), plan.start());
            put("next_session", None, plan.start(), Cow::Borrowed(telling));
        }
        put("label", None, plan.end() + 1, flag(plan.calls));
    }
}
