//! What happens while something is sent, told step by step to whoever tries a sink by hand, and to nobody otherwise.

use std::cell::RefCell;

tokio::task_local! {
    static STEPS: RefCell<Vec<String>>;
}

/// Says that something happened; `text` is made only where somebody listens.
pub fn step(text: impl FnOnce() -> String) {
    // Without a listener there is nobody to tell.
    STEPS.try_with(|steps| steps.borrow_mut().push(text())).ok();
}

/// Does `work`, and gives the steps that it told.
pub async fn listened<W: Future>(work: W) -> (W::Output, Vec<String>) {
    let telling = async {
        let output = work.await;
        (output, STEPS.with(RefCell::take))
    };
    STEPS.scope(RefCell::default(), telling).await
}
