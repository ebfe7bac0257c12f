//! The service: reads the head of a request, and decides whether a key protects it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use oncelog::backend::Backend;
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::claim::Claim;
use crate::future::ResponseFuture;
use crate::key::IdempotencyKey;
use crate::layer::Setup;
use crate::policy::RoutePolicy;
use crate::problem::Problem;
use crate::scope::Scope;

/// A service whose requests are handled once for each key; see
/// [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// Of the inner service it asks that it can be cloned, since it is called after the store was
/// asked; errors of the inner service stay what they are.
pub struct Idempotency<S, B> {
    inner: S,
    backend: Arc<B>,
    setup: Arc<Setup>,
}

/// What the head of a request says.
enum Head {
    /// No key protects it.
    Passing,
    Refused(Problem),
    Keyed(IdempotencyKey, Option<Vec<u8>>),
}

impl<S, B> Idempotency<S, B> {
    pub(crate) fn new(inner: S, backend: Arc<B>, setup: Arc<Setup>) -> Self {
        Self { inner, backend, setup }
    }

    fn head(&self, parts: &Parts, policy: &RoutePolicy) -> Head {
        if !policy.methods.contains(&parts.method) {
            return Head::Passing;
        }
        let key = match IdempotencyKey::of(&parts.headers, &policy.key_header) {
            Ok(Some(key)) => key,
            Ok(None) if policy.required => return Head::Refused(Problem::KeyMissing),
            Ok(None) => return Head::Passing,
            Err(error) => return Head::Refused(Problem::KeyMalformed(error)),
        };
        match self.setup.principal.of(parts) {
            Ok(principal) => Head::Keyed(key, principal),
            Err(_) => Head::Refused(Problem::PrincipalMissing),
        }
    }

    fn claim(
        &self,
        parts: &Parts,
        policy: &Arc<RoutePolicy>,
        key: IdempotencyKey,
        principal: Option<&[u8]>,
    ) -> Claim<B> {
        Claim {
            backend: self.backend.clone(),
            setup: self.setup.clone(),
            policy: policy.clone(),
            store_key: Scope::of(parts, principal, &policy.operation, &key).store_key(),
            options: policy.options(parts, &key),
            grpc: crate::policy::is_grpc(&parts.headers),
            until: None,
            key,
        }
    }
}

impl<S, B, Q, R> Service<Request<Q>> for Idempotency<S, B>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<R>> + Clone,
    B: Backend + 'static,
    Q: Body,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, Q, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let policy = self.setup.policy(&parts);
        match self.head(&parts, &policy) {
            Head::Passing => {
                let request = Request::from_parts(parts, RequestBody::passing(body));
                ResponseFuture::passing(self.inner.call(request))
            }
            Head::Refused(problem) => {
                policy.tell(&crate::event::Event::Refused(&problem));
                let grpc = crate::policy::is_grpc(&parts.headers);
                ResponseFuture::refused(&problem, &self.setup, grpc)
            }
            Head::Keyed(key, principal) => {
                let claim = self.claim(&parts, &policy, key, principal.as_deref());
                // The clone may not be ready; what was polled ready is what gets called.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                ResponseFuture::keyed(claim, service, parts, body)
            }
        }
    }
}

impl<S: Clone, B> Clone for Idempotency<S, B> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.backend.clone(), self.setup.clone())
    }
}

impl<S: fmt::Debug, B> fmt::Debug for Idempotency<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("inner", &self.inner)
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
