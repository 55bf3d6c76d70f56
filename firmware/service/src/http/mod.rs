//! The page, status, metrics, frames and live events over HTTP.
//!
//! hyper on one thread that starts no other: connections, header, body and time are bounded here, and
//! what is asked for is in `routes`.

mod access;
mod attempts;
mod connection;
mod keys;
mod limits;
mod page;
mod password;
mod patience;
mod pictures;
mod places;
mod response;
mod routes;
mod sessions;
mod settings;
mod stream;
mod tls;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) use self::access::Access;
use self::access::Context;
use self::connection::converse;
pub(crate) use self::keys::{Keys, token};
use self::limits::ANSWER_TIME;
pub(crate) use self::password::Password;
pub(crate) use self::settings::{HttpConfig, TOKEN_VARIABLE, TlsConfig};
pub(crate) use self::tls::Identity;
use crate::reach::Reach;
use crate::sync::lock;
use crate::threads::{Role, caught, spawn};

/// How long a server that cannot accept anybody waits before it tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// The answers need no more; 2 MiB would be reserved otherwise.
const STACK: usize = 512 << 10;

/// A listening server. It takes no more connections once this is dropped.
pub(crate) struct Server(Arc<Context>);

impl Server {
    /// Listens at an address and answers what comes in.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(crate) fn start(address: SocketAddr, access: Arc<Access>, reach: Reach) -> Result<Self> {
        let name = || format!("cannot listen on {address}; choose another `output.http`");
        let listener = TcpListener::bind(address).with_context(name)?;
        listener.set_nonblocking(true).with_context(name)?;
        let scheme = if access.tls.is_some() { "https" } else { "http" };
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start HTTP")?;
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener).with_context(name)?
        };
        log::info!("listening on {scheme}://{}", listener.local_addr().with_context(name)?);
        let context = Arc::new(Context {
            access: Mutex::new(access),
            stop: AtomicBool::new(false),
            bell: Notify::new(),
            places: Mutex::default(),
            attempts: Mutex::default(),
            reach,
        });
        let server = Self(context.clone());
        spawn("http", Role::Vital, Some(STACK), move || serve(&runtime, listener, &context))?;
        Ok(server)
    }

    /// Changes who is answered from now on. Those who watch come again.
    pub(crate) fn set_access(&self, access: Arc<Access>) {
        *lock(&self.0.access) = access;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.bell.notify_one();
    }
}

fn serve(runtime: &Runtime, listener: tokio::net::TcpListener, context: &Arc<Context>) {
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        accept(&listener, context, &mut clients).await;
        drop(listener);
        // Those who take too long are cut off.
        let _ = timeout(ANSWER_TIME, async { while clients.join_next().await.is_some() {} }).await;
    });
}

async fn accept(listener: &tokio::net::TcpListener, context: &Arc<Context>, clients: &mut JoinSet<()>) {
    while !context.stop.load(Ordering::SeqCst) {
        tokio::select! {
            () = context.bell.notified() => {}
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => admit(stream, address.ip(), context, clients),
                Err(error) => {
                    log::warn!("a connection over HTTP could not be accepted: {error}");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Has a place as long as it lives.
struct Place(Arc<Context>, IpAddr);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0.places).give_back(self.1);
        self.0.reach.telemetry.http_connections.lower();
    }
}

fn admit(stream: TcpStream, address: IpAddr, context: &Arc<Context>, clients: &mut JoinSet<()>) {
    let telemetry = &context.reach.telemetry;
    if !lock(&context.places).take(address) {
        telemetry.http_refused.one_more();
        log::warn!("a connection over HTTP from {address} was refused, there are enough already");
        return;
    }
    telemetry.http_connections.raise_below(u64::MAX);
    let place = Place(context.clone(), address);
    clients.spawn(Caught(Box::pin(async move {
        converse(stream, address, place.0.clone()).await;
        drop(place);
    })));
}

/// Work for a client. Its panic ends that client alone, and moves no wire.
struct Caught(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for Caught {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        let polled = caught("answering over HTTP", || Ok(self.0.as_mut().poll(context)));
        polled.unwrap_or_else(|error| {
            log::error!("{error:#}");
            Poll::Ready(())
        })
    }
}
