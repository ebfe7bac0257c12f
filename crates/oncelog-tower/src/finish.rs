//! Goes on with requests whose client has gone.
//!
//! A future that is dropped while it holds a key is handed to an executor as it is, and does there
//! what it would have done. For that it is in a box of its own, and everything in it can be sent to
//! another thread; the plain layer asks for neither.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::layer::{IdempotencyLayer, Unfinished};
use crate::service::Idempotency;

type Execute = dyn Fn(Unfinished) + Send + Sync;

/// An [`IdempotencyLayer`] whose requests are finished when their client has gone; see
/// [`IdempotencyLayer::finish_with`].
#[must_use = "a layer does nothing until it is put around a service"]
pub struct FinishLayer<B> {
    layer: IdempotencyLayer<B>,
    execute: Arc<Execute>,
}

impl<B> FinishLayer<B> {
    pub(crate) fn new(layer: IdempotencyLayer<B>, execute: Arc<Execute>) -> Self {
        Self { layer, execute }
    }
}

impl<B> Clone for FinishLayer<B> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), execute: self.execute.clone() }
    }
}

impl<B> fmt::Debug for FinishLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishLayer").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<S, B> Layer<S> for FinishLayer<B> {
    type Service = Finish<Idempotency<S, B>>;

    fn layer(&self, inner: S) -> Self::Service {
        Finish { inner: self.layer.layer(inner), execute: self.execute.clone() }
    }
}

/// The service of a [`FinishLayer`].
#[derive(Clone)]
pub struct Finish<S> {
    inner: S,
    execute: Arc<Execute>,
}

impl<S: fmt::Debug> fmt::Debug for Finish<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finish").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, Q> Service<Q> for Finish<S>
where
    S: Service<Q>,
    S::Future: Keyed + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FinishFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let future = Some(Box::pin(self.inner.call(request)));
        FinishFuture { future, execute: self.execute.clone() }
    }
}

/// A request that may hold a key.
pub trait Keyed: Future {
    /// True if its key is begun or being begun, and not ended.
    fn is_begun(&self) -> bool;
}

/// The future of [`Finish`].
pub struct FinishFuture<F: Keyed + Send + 'static> {
    /// `None` once it is ready.
    future: Option<Pin<Box<F>>>,
    execute: Arc<Execute>,
}

impl<F: Keyed + Send + 'static> Future for FinishFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(mut future) = self.future.take() else { return Poll::Pending };
        // If this panics, the future is dropped with it: one that has panicked is not polled again.
        let answer = future.as_mut().poll(context);
        if answer.is_pending() {
            self.future = Some(future);
        }
        answer
    }
}

impl<F: Keyed + Send + 'static> Drop for FinishFuture<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        if future.is_begun() {
            (self.execute)(Box::pin(async move { drop(future.await) }));
        }
    }
}

impl<F: Keyed + Send + 'static> fmt::Debug for FinishFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishFuture").field("done", &self.future.is_none()).finish_non_exhaustive()
    }
}
