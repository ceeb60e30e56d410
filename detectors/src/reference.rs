//! References: what normal looks like for a model, frozen, with its provenance.

/// How far a reference can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Learned from traffic: what rests on it may alert, never block.
    Provisional,
    /// Named or promoted by the operator.
    Trusted,
}

/// Rows that stand for normal traffic.
#[derive(Clone, Debug)]
pub struct Reference {
    /// How far it can be relied upon.
    pub trust: Trust,
}
