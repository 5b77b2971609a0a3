//! A served request: chat completion of 16 tokens through the HTTP router, for one text and for eight.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use litemoe_benches::foundation;
use litemoe_fixtures::foundation_dir;
use litemoe_server::{Server, ServerOptions};
use litemoe_text::Tokenizer;
use tower::ServiceExt;

const TOKENS: usize = 16;

fn serve(criterion: &mut Criterion) {
    let tokenizer = Tokenizer::from_dir(foundation_dir()).expect("the embedded tokenizer");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let router = {
        let _context = runtime.enter();
        Server::new("foundation", foundation(), tokenizer, ServerOptions::default())
            .expect("a server")
            .into_router()
    };
    let request = |n: usize| {
        let body = format!(
            r#"{{"model": "foundation", "messages": [{{"role": "user", "content": "Hello"}}],
                "n": {n}, "max_tokens": {TOKENS}, "temperature": 1, "logit_bias": {{"0": -100}}}}"#
        );
        Request::post("/v1/chat/completions").body(Body::from(body)).expect("a request")
    };
    let mut group = criterion.benchmark_group("serve");
    group.sample_size(20);
    for n in [1, 8] {
        group.throughput(Throughput::Elements((n * TOKENS) as u64));
        group.bench_function(BenchmarkId::from_parameter(n), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let response = router.clone().oneshot(request(n)).await.expect("a response");
                    assert_eq!(response.status(), 200);
                    to_bytes(response.into_body(), usize::MAX).await.expect("an answer")
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, serve);
criterion_main!(benches);
