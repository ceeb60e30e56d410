//! Questions whose answers are awaited: what the answer's decoder needs of them, and, for models not yet known,
//! the questions themselves.

use std::collections::VecDeque;

use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::identity::Asker;
use rustc_hash::FxHashMap;

use crate::capture::{Asked, Body};

/// One open question.
pub struct Open {
    id: u64,
    /// Who asked.
    pub asker: Asker,
    /// The configured model.
    pub model: Option<u16>,
    /// The protocol that claimed the request.
    pub protocol: Option<u8>,
    /// The model's name as the path gave it.
    pub name: String,
    /// The question itself, until its model's name is known; seldom there, and large.
    pub pending: Option<Box<Asked>>,
}

impl Open {
    /// What is remembered of `asked`.
    pub fn new(asked: &Asked) -> Self {
        Self {
            id: asked.id,
            asker: asked.asker,
            model: asked.model,
            protocol: asked.protocol,
            name: asked.name.clone(),
            pending: None,
        }
    }

    fn pending_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |asked| asked.body.held())
    }
}

/// All open questions of a lane, bounded in number and in bytes; the oldest gives way.
pub struct OpenParts {
    parts: FxHashMap<u64, Open>,
    order: VecDeque<u64>,
    parts_max: usize,
    pending_bytes: usize,
    pending_bytes_max: usize,
}

impl OpenParts {
    /// Room for `parts_max` questions, `pending_bytes_max` of them with their bodies.
    pub fn new(parts_max: usize, pending_bytes_max: usize) -> Self {
        Self {
            parts: FxHashMap::default(),
            order: VecDeque::new(),
            parts_max: parts_max.max(1),
            pending_bytes: 0,
            pending_bytes_max,
        }
    }

    /// Remembers a question.
    pub fn insert(&mut self, mut open: Open) {
        if self.pending_bytes + open.pending_bytes() > self.pending_bytes_max
            && let Some(asked) = &mut open.pending
        {
            asked.body = Body::Not(NotInspected::Shed);
        }
        self.pending_bytes += open.pending_bytes();
        self.order.push_back(open.id);
        self.parts.insert(open.id, open);
        while self.parts.len() > self.parts_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        // Answered questions leave their place in `order` behind; it is swept once they outnumber the rest.
        if self.order.len() > 2 * self.parts_max {
            let parts = &self.parts;
            self.order.retain(|id| parts.contains_key(id));
        }
    }

    /// Takes the question that an answer belongs to.
    pub fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.parts.remove(&id)?;
        self.pending_bytes -= open.pending_bytes();
        Some(open)
    }

    /// Takes the bodies of all questions that wait for the name of a model, oldest first.
    pub fn take_pending(&mut self, name: &str) -> Vec<Asked> {
        let waiting = self.parts.values_mut().filter(|open| open.model.is_none() && open.name == name);
        let mut taken: Vec<Asked> =
            waiting.filter_map(|open| open.pending.take().map(|asked| *asked)).collect();
        taken.sort_by_key(|asked| asked.id);
        self.pending_bytes -= taken.iter().map(|asked| asked.body.held()).sum::<usize>();
        taken
    }
}
