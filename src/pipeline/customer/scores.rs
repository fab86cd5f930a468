//! What the bundle's heads say of a session: their inputs, and the rows of their calls.
//!
//! ```text
//!   state before ─▸ read(session's start) = prior ─┐
//!              └─▸ step(session) ─▸ read = embedding ┴─▸ heads ─▸ scores
//! ```
//! A session that continues one which a limit closed has that one's prior.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graphs::{self, Request};
use super::inherit::Inherited;
use super::{Brief, Mark};
use crate::model::features::FeatureSpec;
use crate::model::{HeadInput, Model};

/// What the rules need to know of the heads.
#[derive(Debug)]
pub(super) struct Heads {
    names: Vec<Arc<str>>,
    reads_prior: bool,
}

impl Heads {
    pub(super) fn of(model: &dyn Model) -> Self {
        Self {
            names: model.heads().iter().map(|head| Arc::clone(&head.name)).collect(),
            reads_prior: model.heads_read(HeadInput::Prior),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// By name; what is not finite is left out.
    pub(super) fn named(&self, scores: Vec<Vec<f32>>) -> BTreeMap<Arc<str>, Vec<f32>> {
        let named = self.names.iter().cloned().zip(scores);
        named.filter(|(_, scores)| scores.iter().all(|score| score.is_finite())).collect()
    }
}

/// An embedding that was read, on its way to the heads.
#[derive(Debug)]
pub(super) struct Scoring {
    pub(super) embedding: Box<[f32]>,
    /// `None` until it was read, where a head asks for it. Zeros where the graph gave none that is finite.
    prior: Option<Box<[f32]>>,
}

impl Scoring {
    pub(super) fn new(embedding: Box<[f32]>) -> Self {
        Self { embedding, prior: None }
    }

    pub(super) fn take_prior(&mut self, prior: Option<Box<[f32]>>) {
        self.prior = Some(prior.unwrap_or_else(|| vec![0.0; self.embedding.len()].into()));
    }

    /// The next call: the prior, then the heads.
    pub(super) fn request<'c>(
        &'c self,
        before: &'c Mark,
        session: &Brief,
        vector: &'c [f32],
        inherited: &'c Inherited,
        spec: &FeatureSpec,
        heads: &Heads,
    ) -> Request<'c> {
        let context = &inherited.context;
        let prior: &[f32] = match &self.prior {
            None if heads.reads_prior => {
                let own = (before, session.start);
                let (before, start) = inherited.outset.as_ref().map_or(own, |outset| (&outset.before, outset.start));
                return graphs::read(before, start, context, spec);
            }
            // Nobody looks at it.
            None => &[],
            Some(prior) => prior,
        };
        Request::Score {
            state: &before.state,
            prior,
            session: vector,
            embedding: &self.embedding,
            calendar: spec.calendar(session.start.ms()),
            context,
        }
    }
}
