//! What a session takes over from the one that it continues, which a limit cut off: its context, and where its prior is
//! read. `[pure]`
//!
//! ```text
//!   mark ─▸ session, cut by a limit ─▸ CONTINUED, cut by a limit ─▸ CONTINUED
//!     └──────────── prior of all three, at the first one's start ──────┘
//! ```

use std::sync::Arc;

use super::{Brief, Customer, Mark};
use crate::model::features::FeatureSpec;
use crate::types::{CloseReason, EventTime, OpenedBy};

/// Where the prior of a continued session is read: before the first that a limit cut off.
#[derive(Debug)]
pub(super) struct Outset {
    pub(super) before: Mark,
    pub(super) start: EventTime,
}

/// What a session has of an earlier one.
#[derive(Debug, Clone)]
pub(super) struct Inherited {
    /// Its own or the earlier one's.
    pub(super) context: Arc<[f32]>,
    /// `None`: its own, the state before it at its start.
    pub(super) outset: Option<Arc<Outset>>,
}

/// What a frozen session closed by a limit leaves for the one that continues it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key_hash: u64,
    pub(super) context: Arc<[f32]>,
    /// `None` in a record of a version that did not know of it.
    pub(super) outset: Option<Arc<Outset>>,
}

impl Customer {
    /// Its own LOGIN's context; of a session that continues one which a limit closed, that one's context and outset; else
    /// none. `known`: what it inherited when it was folded before, since what it had that from may be forgotten.
    pub(super) fn inherit(
        &self,
        session: &Brief,
        place: usize,
        known: Option<&Inherited>,
        spec: &FeatureSpec,
    ) -> Inherited {
        let own = |context| Inherited { context, outset: None };
        if let Some(context) = session.context.as_deref() {
            return own(Arc::from(context));
        }
        if session.opened_by != OpenedBy::Continued {
            return own(spec.no_context().into());
        }
        let mut before = self.folded[..place].iter().enumerate().rev();
        let before = before.find(|(_, f)| f.session.is_published && f.session.key_hash == session.key_hash);
        let is_limit = |reason: Option<CloseReason>| reason.is_some_and(CloseReason::is_limit);
        let inherited = match before {
            // A straggler ended it otherwise.
            Some((_, entry)) if !is_limit(entry.session.close_reason) => {
                known.map(|known| own(Arc::clone(&known.context)))
            }
            Some((at, entry)) => entry.inherited.as_ref().map(|inherited| {
                let first = || Arc::new(Outset { before: self.mark(at).clone(), start: entry.session.start });
                Inherited {
                    context: Arc::clone(&inherited.context),
                    outset: Some(inherited.outset.clone().unwrap_or_else(first)),
                }
            }),
            None => {
                let kept = self.kept.iter().find(|kept| kept.key_hash == session.key_hash);
                kept.map(|kept| Inherited { context: Arc::clone(&kept.context), outset: kept.outset.clone() })
            }
        };
        inherited.or_else(|| known.cloned()).unwrap_or_else(|| own(spec.no_context().into()))
    }

    pub(super) fn freeze(&mut self, count: usize) {
        debug_assert!(self.dirty >= count, "only what is folded freezes");
        for entry in self.folded.drain(..count) {
            let session = &entry.session;
            if let Some(Inherited { context, outset }) = entry.inherited {
                self.kept.retain(|kept| kept.key_hash != session.key_hash);
                if session.close_reason.is_some_and(CloseReason::is_limit) {
                    let first = || Arc::new(Outset { before: self.frozen.clone(), start: session.start });
                    let outset = Some(outset.unwrap_or_else(first));
                    self.kept.push(Kept { key_hash: session.key_hash, context, outset });
                }
            }
            self.frozen = entry.after;
        }
        self.dirty -= count;
        if self.folded.is_empty() {
            (self.folded, self.carried) = (Vec::new(), None);
        }
    }
}
