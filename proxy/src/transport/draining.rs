//! When the process wants its connections to end.

use tokio::sync::watch;

/// Resolves once the drain begins.
pub async fn turned(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        // Whoever could begin a drain is gone.
        std::future::pending::<()>().await;
    }
}
