//! Response bodies that tell how they ended.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::header::CONTENT_LENGTH;
use ::http::{Method, StatusCode, response};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::admitted::End;

pin_project! {
    /// The body of a response of [`AgentKeyService`](super::AgentKeyService): the handler's, or that of a refusal.
    ///
    /// The request has ended when the body has, or when it is dropped.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Refusal { #[pin] body: Full<Bytes> },
        Handler { #[pin] body: B, watch: Option<Watch> },
    }
}

impl<B> std::fmt::Debug for Kind<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Refusal { .. } => "Refusal",
            Kind::Handler { .. } => "Handler",
        })
    }
}

struct Watch {
    end: End,
    /// Bytes that are to come; `None` if nobody said how many. A server does not ask for more.
    left: Option<u64>,
}

impl<B> ResponseBody<B> {
    pub(super) fn refusal(body: Full<Bytes>) -> Self {
        ResponseBody { kind: Kind::Refusal { body } }
    }

    pub(super) fn unwatched(body: B) -> Self {
        ResponseBody { kind: Kind::Handler { body, watch: None } }
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn watched(body: B, method: &Method, head: &response::Parts, end: End) -> Self {
        let said = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut watch = Watch { end, left: body.size_hint().exact().or(said) };
        // A server takes no body from these, and drops it.
        let has_none = *method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none || body.is_end_stream() || watch.left == Some(0) {
            watch.end.completed();
        }
        ResponseBody { kind: Kind::Handler { body, watch: Some(watch) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let (mut body, watch) = match self.project().kind.project() {
            KindProjection::Refusal { body } => {
                return body.poll_frame(context).map_err(|infallible| match infallible {});
            }
            KindProjection::Handler { body, watch } => (body, watch),
        };
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll_frame(context)));
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(panic) => {
                if let Some(mut watch) = watch.take() {
                    watch.end.threw();
                }
                resume_unwind(panic)
            }
        };
        match &frame {
            None => {
                if let Some(mut watch) = watch.take() {
                    watch.end.completed();
                }
            }
            Some(Err(_)) => {
                if let Some(mut watch) = watch.take() {
                    watch.end.threw();
                }
            }
            Some(Ok(frame)) => {
                if let Some(watch) = watch {
                    let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                    watch.left = watch.left.map(|left| left.saturating_sub(length));
                    if watch.left == Some(0) || body.is_end_stream() {
                        watch.end.completed();
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Refusal { body } => body.is_end_stream(),
            Kind::Handler { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Refusal { body } => body.size_hint(),
            Kind::Handler { body, .. } => body.size_hint(),
        }
    }
}
