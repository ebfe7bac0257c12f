//! Routers of axum: routes that are nested, and layers around all or one of them.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use oncelog::{Policy, Store};
use oncelog_tower::{IdempotencyLayer, Principal, RoutePolicy};
use tower::ServiceExt;

async fn ask(router: &Router, path: &str) -> (StatusCode, bool) {
    let request = Request::post(path).header("idempotency-key", "k").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    (response.status(), response.headers().contains_key("idempotency-replayed"))
}

fn layer(store: &Store) -> IdempotencyLayer<oncelog::Namespace> {
    let keys = store.namespace("http", Policy::default()).unwrap();
    IdempotencyLayer::new(keys, Principal::public())
}

async fn pay(Path(account): Path<String>) -> String {
    account
}

#[tokio::test]
async fn a_layer_around_a_router_protects_each_of_its_routes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let inner = Router::new().route("/{account}/pay", post(pay));
    let router = Router::new().nest("/a", inner.clone()).nest("/b", inner).layer(layer(&store));
    for path in ["/a/x/pay", "/b/x/pay", "/a/y/pay"] {
        assert_eq!(ask(&router, path).await, (StatusCode::OK, false), "{path}");
        assert_eq!(ask(&router, path).await, (StatusCode::OK, true), "{path}");
    }
}

#[tokio::test]
async fn layers_inside_of_nested_routers_need_an_operation() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let inner = |operation: &str| {
        let layer = layer(&store).policy(RoutePolicy::new().operation(operation));
        Router::new().route("/{account}/pay", post(pay)).layer(layer)
    };
    // Inside, the prefix is gone from the path, and both are `/x/pay`.
    let router = Router::new().nest("/a", inner("a")).nest("/b", inner("b"));
    assert_eq!(ask(&router, "/a/x/pay").await, (StatusCode::OK, false));
    assert_eq!(ask(&router, "/b/x/pay").await, (StatusCode::OK, false));
    assert_eq!(ask(&router, "/b/x/pay").await, (StatusCode::OK, true));
}
