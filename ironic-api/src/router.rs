//! The one entry point: everything that a request passes before and after its handler, in the order of `api.md` section 1.3.
//!
//! Dispatch goes by the table in `route.rs`, not by axum's router: paths, `Allow` values and microversions are one contract there.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body as AxumBody,
    extract::{ConnectInfo, State},
};
use bessemer_db::Store;
use bessemer_model::{
    deploy_template::DeployTemplate,
    fault::{Fault, FaultKind},
    inspection_rule::InspectionRule,
    runbook::Runbook,
    volume::{Connector, Target},
};
use bessemer_rpc::{ConductorApi, RequestCx};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;

use crate::{
    audit::Record,
    auth::{self, Caller},
    body::{Body, json_depth},
    config::ApiConfig,
    fault::{Refusal, denied_response, fault_response, refusal_response, root_version_response},
    heartbeat, inspection, lookup, openapi,
    policy::{self, Narrow},
    proxy::{self, Origin},
    query::Query,
    reply::Reply,
    request::{Api, Req},
    resource::{
        allocation, chassis, conductor, driver, event, firmware, history, node, node_devices, node_states, node_sub, node_write, port,
        port_write, portgroup, portgroup_write, provision, record, root, runbook, shard, vendor, volume, volume_root,
    },
    ring::Ring,
    route::{self, Lost, Op},
    version::{Behaviour, Version, negotiate, version_headers},
};

/// A client that has not sent its body by then is given up.
const BODY_DEADLINE: Duration = Duration::from_secs(120);

/// The whole API as an axum router.
pub fn router(config: ApiConfig, store: Store, conductor: Arc<dyn ConductorApi>) -> Router {
    let api = Arc::new(Api { ring: Ring::new(store.clone(), config.hash_partition_exponent), config, store, conductor });
    Router::new().fallback(serve).with_state(api)
}

async fn serve(State(api): State<Arc<Api>>, request: Request<AxumBody>) -> Response<AxumBody> {
    let started = Instant::now();
    let cors = api.config.cors.headers(request.method(), request.headers());
    if request.method() == Method::OPTIONS {
        let mut response = Response::new(AxumBody::empty());
        response.headers_mut().extend(cors);
        return response;
    }
    let request_id = format!("req-{}", uuid::Uuid::new_v4());
    let method = request.method().clone();
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip());
    let client = proxy::client(&parts.headers, peer, api.config.proxy_headers);
    let path = parts.uri.path().to_owned();
    let mut who = Caller::default();
    let work = AssertUnwindSafe(answer(&api, parts, body, &request_id, &mut who)).catch_unwind();
    let mut response = match work.await {
        Ok(r) => r,
        Err(_) => {
            tracing::error!(request_id, "a handler panicked");
            fault_response(&Fault::internal("a handler panicked"), &request_id)
        }
    };
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("openstack-request-id", id.clone());
        response.headers_mut().insert("x-openstack-request-id", id);
    }
    response.headers_mut().extend(cors);
    if let Some(audit) = api.config.audit.as_ref().filter(|a| a.wants(&method, response.status())) {
        let record = Record::new(&request_id, &method, &path, response.status(), started.elapsed(), &who);
        audit.record(&Record { client, ..record }).await;
    }
    if method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response.map(AxumBody::from)
}

/// A path below the service root.
struct Path {
    segments: Vec<String>,
    /// It ended with a slash.
    slash: bool,
    /// It is `/`, not below `/v1`.
    service_root: bool,
}

fn parse_path(raw: &str) -> Result<Path, Refusal> {
    let mut segments = Vec::new();
    for s in raw.trim_start_matches('/').split('/') {
        let s = percent_decode_str(s).decode_utf8().map_err(|_| Refusal::PathEncoding)?;
        if s.contains('\0') {
            return Err(Refusal::PathCharacter);
        }
        segments.push(s.into_owned());
    }
    let slash = segments.last().is_some_and(String::is_empty);
    if slash {
        segments.pop();
    }
    let service_root = segments.is_empty();
    if segments.first().is_some_and(|s| s == "v1") {
        segments.remove(0);
    }
    Ok(Path { segments, slash, service_root })
}

async fn answer(api: &Api, parts: Parts, body: AxumBody, request_id: &str, who: &mut Caller) -> Response<Bytes> {
    if api.config.healthcheck && parts.uri.path().trim_end_matches('/') == "/healthcheck" {
        return healthcheck(api).await;
    }
    if parts.uri.path() == "/openapi.json" && parts.method == Method::GET {
        return description();
    }
    let mut path = match parse_path(parts.uri.path()) {
        Ok(p) => p,
        Err(r) => return refusal_response(&r),
    };
    let caller = if route::is_public(&path.segments) {
        Caller::public()
    } else {
        match auth::authenticate(&api.config.auth, &parts.headers).await {
            Ok(c) => c,
            Err(d) => return denied_response(&d),
        }
    };
    *who = caller.clone();
    let (version, explicit) = match negotiate(&parts.headers) {
        Ok(v) => v,
        Err(r) if path.service_root => return root_version_response(&r),
        Err(r) => return refusal_response(&Refusal::Version(r)),
    };
    let base = base_url(api, &parts);
    if path.service_root {
        return finish(root::service(&base), version, request_id);
    }
    let suffix_cut = explicit && version.has(Behaviour::JsonSuffix) && cut_suffix(&mut path);

    let route::Found { op, params, fields } = match route::find(parts.method.as_str(), &path.segments, path.slash, version) {
        Ok(found) => found,
        Err(Lost::Refused(r)) => return refusal_response(&r),
        Err(Lost::Fault(kind)) => return finish(Err(lost(kind, parts.uri.path())), version, request_id),
    };
    if !accepts_json(&parts.headers) {
        return refusal_response(&Refusal::Accept);
    }
    let body = match read_body(api, op, &parts.headers, body).await {
        Ok(b) => b,
        Err(r) => return refusal_response(&r),
    };
    let query = match Query::parse(parts.uri.query()) {
        // What is sent with a vendor's method is its own.
        Ok(q) if parts.method == Method::DELETE && !matches!(op, Op::VendorCall | Op::DriverVendorCall) => q.with_arguments(&body),
        Ok(q) => q.with_fields(fields),
        Err(f) => return finish(Err(f), version, request_id),
    };
    let cx = RequestCx { request_id: request_id.to_owned(), user: caller.user_id.clone(), project: caller.project_id.clone() };
    let rights = api.config.policies.of(caller, api.config.auth.has_policies());
    let method = parts.method.as_str().to_owned();
    let mut req = Req { method, version, params, query, body, base, cx, suffix_cut, rights, narrow: Narrow::default() };
    if let Err(f) = policy::enforce(api, &mut req, op).await {
        return finish(Err(f), version, request_id);
    }
    match route::too_old(op, version) {
        Some(Lost::Refused(r)) => refusal_response(&r),
        Some(Lost::Fault(kind)) => finish(Err(lost(kind, parts.uri.path())), version, request_id),
        None => finish(handled(api, &req, op).await, version, request_id),
    }
}

/// The handler's answer, if the caller may have it.
async fn handled(api: &Api, req: &Req, op: Op) -> Result<Reply, Fault> {
    let reply = dispatch(api, req, op).await?;
    policy::handled(req, op)?;
    Ok(reply)
}

fn lost(kind: FaultKind, path: &str) -> Fault {
    let path: String = path.chars().take(200).collect();
    let text = match kind {
        FaultKind::NotAcceptable => format!("{path} needs a newer API version."),
        FaultKind::InvalidParameterValue => format!("{path}: unexpected arguments."),
        FaultKind::MethodNotAllowed => format!("{path} does not take this method in this API version."),
        _ => format!("{path} could not be found."),
    };
    Fault::new(kind, text)
}

fn finish(result: Result<Reply, Fault>, version: Version, request_id: &str) -> Response<Bytes> {
    let mut response = match result {
        Ok(reply) => reply.into_response(),
        Err(fault) => fault_response(&fault, request_id),
    };
    version_headers(response.headers_mut(), version);
    response
}

fn description() -> Response<Bytes> {
    let mut r = Response::new(Bytes::from_static(openapi::document().as_bytes()));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

async fn healthcheck(api: &Api) -> Response<Bytes> {
    let ok = api.store.ping().await.is_ok();
    let mut r = Response::new(Bytes::from_static(if ok { b"OK" } else { b"UNAVAILABLE" }));
    *r.status_mut() = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    r
}

fn base_url(api: &Api, parts: &Parts) -> String {
    if let Some(p) = &api.config.public_endpoint {
        return p.trim_end_matches('/').to_owned();
    }
    Origin::of(&parts.uri, &parts.headers, api.config.tls, api.config.proxy_headers).base()
}

fn cut_suffix(path: &mut Path) -> bool {
    let cut = path.segments.last().and_then(|s| s.strip_suffix(".json")).filter(|s| !s.is_empty()).map(str::to_owned);
    match (cut, path.segments.last_mut()) {
        (Some(bare), Some(last)) => {
            *last = bare;
            true
        }
        _ => false,
    }
}

/// Whether the client takes `application/json`; saying nothing takes everything.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut said = false;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',').map(|r| r.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).filter(|r| !r.is_empty())
        {
            said = true;
            if matches!(range.as_str(), "application/json" | "application/*" | "*/*") {
                return true;
            }
        }
    }
    !said
}

async fn read_body(api: &Api, op: Op, headers: &HeaderMap, body: AxumBody) -> Result<Body, Refusal> {
    let limits = &api.config.limits;
    let max = match op {
        Op::ProvisionSet => limits.provision,
        Op::ContinueInspection => limits.inspection,
        _ => limits.general,
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|n| n > max as u64) {
        return Err(Refusal::BodySize(max));
    }
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, max).collect());
    let bytes = whole.await.map_err(|_| Refusal::BodyLate)?.map_err(|_| Refusal::BodySize(max))?.to_bytes();
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(|v| v.split(';').next().unwrap_or_default().trim().to_owned());
    if json_depth(&bytes) > limits.depth {
        return Err(Refusal::BodyDepth(limits.depth));
    }
    Ok(Body { bytes, media_type })
}

/// The handler's work. It is boxed: one future that held any of the hundred handlers' would be as large as the largest, and unoptimised its frame as
/// large as all of them.
fn dispatch<'a>(api: &'a Api, req: &'a Req, op: Op) -> BoxFuture<'a, Result<Reply, Fault>> {
    match op {
        Op::ApiRoot => ready(root::version(req)).boxed(),
        Op::WrongMethodOnRoot => ready(Err(Fault::new(FaultKind::MethodNotAllowed, "The version root takes GET only."))).boxed(),
        Op::NodeList => node::list(api, req, false).boxed(),
        Op::NodeDetail => node::list(api, req, true).boxed(),
        Op::NodeShow => node::show(api, req).boxed(),
        Op::NodeCreate => node_write::create(api, req).boxed(),
        Op::NodePatch => node_write::patch(api, req).boxed(),
        Op::NodeDelete => node_write::delete(api, req).boxed(),
        Op::MaintenanceSet => node_write::maintenance_set(api, req).boxed(),
        Op::MaintenanceClear => node_write::maintenance_clear(api, req).boxed(),
        Op::NodeValidate => node_sub::validate(api, req).boxed(),
        Op::NodeValidateByQuery => node_sub::validate_by_query(api, req).boxed(),
        Op::NodeChildren => node_sub::children(api, req).boxed(),
        Op::States => node_states::show(api, req).boxed(),
        Op::PowerSet => node_states::power(api, req).boxed(),
        Op::ProvisionSet => provision::set(api, req).boxed(),
        Op::RaidSet => node_states::raid(api, req).boxed(),
        Op::ConsoleShow => node_devices::console(api, req).boxed(),
        Op::ConsoleSet => node_devices::console_set(api, req).boxed(),
        Op::Indicators => node_devices::indicators(api, req).boxed(),
        Op::IndicatorShow => node_devices::indicator(api, req).boxed(),
        Op::IndicatorSet => node_devices::indicator_set(api, req).boxed(),
        Op::Vifs => node_devices::vifs(api, req).boxed(),
        Op::VifAttach => node_devices::vif_attach(api, req).boxed(),
        Op::VifDetach => node_devices::vif_detach(api, req).boxed(),
        Op::Media => node_devices::media(api, req).boxed(),
        Op::MediaAttach => node_devices::media_attach(api, req).boxed(),
        Op::MediaDetach => node_devices::media_detach(api, req).boxed(),
        Op::BiosList => firmware::bios_list(api, req).boxed(),
        Op::BiosShow => firmware::bios_show(api, req).boxed(),
        Op::FirmwareList => firmware::firmware_list(api, req).boxed(),
        Op::VendorMethods => vendor::node_methods(api, req).boxed(),
        Op::VendorCall => vendor::node_call(api, req).boxed(),
        Op::DriverVendorCall => vendor::driver_call(api, req).boxed(),
        Op::BootModeSet => node_states::boot_mode(api, req).boxed(),
        Op::SecureBootSet => node_states::secure_boot(api, req).boxed(),
        Op::BootDeviceShow => node_sub::boot_device(api, req).boxed(),
        Op::BootDeviceSet => node_sub::boot_device_set(api, req).boxed(),
        Op::BootDeviceSupported => node_sub::boot_device_supported(api, req).boxed(),
        Op::InjectNmi => node_sub::inject_nmi(api, req).boxed(),
        Op::TraitList => node_sub::traits(api, req).boxed(),
        Op::TraitsSet => node_sub::traits_set(api, req).boxed(),
        Op::TraitAdd => node_sub::trait_add(api, req).boxed(),
        Op::TraitsClear => node_sub::traits_clear(api, req).boxed(),
        Op::TraitRemove => node_sub::trait_remove(api, req).boxed(),
        Op::HistoryList => history::list(api, req).boxed(),
        Op::HistoryShow => history::show(api, req).boxed(),
        Op::Inventory => node_sub::inventory(api, req).boxed(),
        Op::NodePorts => port::list_of_node(api, req, false).boxed(),
        Op::NodePortsDetail => port::list_of_node(api, req, true).boxed(),
        Op::NodeVolume => ready(volume_root::of_node(req)).boxed(),
        Op::ConnectorListOfNode => volume::list_of_node::<Connector>(api, req).boxed(),
        Op::ConnectorMisplaced => volume::misplaced::<Connector>(api, req).boxed(),
        Op::ConnectorList => volume::list::<Connector>(api, req).boxed(),
        Op::ConnectorCreate => volume::create::<Connector>(api, req).boxed(),
        Op::ConnectorShow => volume::show::<Connector>(api, req).boxed(),
        Op::ConnectorPatch => volume::patch::<Connector>(api, req).boxed(),
        Op::ConnectorDelete => volume::delete::<Connector>(api, req).boxed(),
        Op::TargetListOfNode => volume::list_of_node::<Target>(api, req).boxed(),
        Op::TargetMisplaced => volume::misplaced::<Target>(api, req).boxed(),
        Op::TargetList => volume::list::<Target>(api, req).boxed(),
        Op::TargetCreate => volume::create::<Target>(api, req).boxed(),
        Op::TargetShow => volume::show::<Target>(api, req).boxed(),
        Op::TargetPatch => volume::patch::<Target>(api, req).boxed(),
        Op::TargetDelete => volume::delete::<Target>(api, req).boxed(),
        Op::AllocationList => allocation::list(api, req).boxed(),
        Op::AllocationCreate => allocation::create(api, req).boxed(),
        Op::AllocationShow => allocation::show(api, req).boxed(),
        Op::AllocationPatch => allocation::patch(api, req).boxed(),
        Op::AllocationDelete => allocation::delete(api, req).boxed(),
        Op::AllocationOfNode => allocation::show_of_node(api, req).boxed(),
        Op::AllocationOfNodeDelete => allocation::delete_of_node(api, req).boxed(),
        Op::PortList => port::list(api, req).boxed(),
        Op::PortDetail => port::list_detail(api, req).boxed(),
        Op::PortShow => port::show(api, req).boxed(),
        Op::PortCreate => port_write::create(api, req).boxed(),
        Op::PortPatch => port_write::patch(api, req).boxed(),
        Op::PortDelete => port_write::delete(api, req).boxed(),
        Op::PortgroupList => portgroup::list(api, req, false).boxed(),
        Op::PortgroupDetail => portgroup::list(api, req, true).boxed(),
        Op::PortgroupShow => portgroup::show(api, req).boxed(),
        Op::PortgroupCreate => portgroup_write::create(api, req).boxed(),
        Op::PortgroupPatch => portgroup_write::patch(api, req).boxed(),
        Op::PortgroupDelete => portgroup_write::delete(api, req).boxed(),
        Op::PortgroupPorts => port::list_of_portgroup(api, req, false).boxed(),
        Op::PortgroupPortsDetail => port::list_of_portgroup(api, req, true).boxed(),
        Op::NodePortgroups => portgroup::list_of_node(api, req, false).boxed(),
        Op::NodePortgroupsDetail => portgroup::list_of_node(api, req, true).boxed(),
        Op::PortgroupMisplaced => portgroup::misplaced(api, req).boxed(),
        Op::ChassisList => chassis::list(api, req, false).boxed(),
        Op::ChassisDetail => chassis::list(api, req, true).boxed(),
        Op::ChassisShow => chassis::show(api, req).boxed(),
        Op::ChassisCreate => chassis::create(api, req).boxed(),
        Op::ChassisPatch => chassis::patch(api, req).boxed(),
        Op::ChassisDelete => chassis::delete(api, req).boxed(),
        Op::ChassisNodes => node::list_of_chassis(api, req, false).boxed(),
        Op::ChassisNodesDetail => node::list_of_chassis(api, req, true).boxed(),
        Op::ShardList => shard::list(api, req).boxed(),
        Op::DriverList => driver::list(api, req).boxed(),
        Op::DriverShow => driver::show(api, req).boxed(),
        Op::DriverProperties => driver::properties(api, req).boxed(),
        Op::DriverRaid => driver::raid(api, req).boxed(),
        Op::DriverMethods => vendor::driver_methods(api, req).boxed(),
        Op::ConductorList => conductor::list(api, req).boxed(),
        Op::ConductorShow => conductor::show(api, req).boxed(),
        Op::TemplateList => record::list::<DeployTemplate>(api, req).boxed(),
        Op::TemplateCreate => record::create::<DeployTemplate>(api, req).boxed(),
        Op::TemplateShow => record::show::<DeployTemplate>(api, req).boxed(),
        Op::TemplatePatch => record::patch::<DeployTemplate>(api, req).boxed(),
        Op::TemplateDelete => record::delete::<DeployTemplate>(api, req).boxed(),
        Op::RunbookList => record::list::<Runbook>(api, req).boxed(),
        Op::RunbookCreate => record::create::<Runbook>(api, req).boxed(),
        Op::RunbookShow => record::show::<Runbook>(api, req).boxed(),
        Op::RunbookPatch => record::patch::<Runbook>(api, req).boxed(),
        Op::RunbookDelete => record::delete::<Runbook>(api, req).boxed(),
        Op::RunbookTraitList => runbook::traits(api, req).boxed(),
        Op::RunbookTraitsSet => runbook::traits_set(api, req).boxed(),
        Op::RunbookTraitAdd => runbook::trait_add(api, req).boxed(),
        Op::RunbookTraitsClear => runbook::traits_clear(api, req).boxed(),
        Op::RunbookTraitRemove => runbook::trait_remove(api, req).boxed(),
        Op::RuleList => record::list::<InspectionRule>(api, req).boxed(),
        Op::RuleCreate => record::create::<InspectionRule>(api, req).boxed(),
        Op::RuleShow => record::show::<InspectionRule>(api, req).boxed(),
        Op::RulePatch => record::patch::<InspectionRule>(api, req).boxed(),
        Op::RuleDelete => record::delete::<InspectionRule>(api, req).boxed(),
        Op::VolumeRoot => ready(volume_root::show(req)).boxed(),
        Op::IdentMissing => {
            ready(Err(Fault::missing("Missing mandatory parameter: the identity of the resource belongs in the path."))).boxed()
        }
        Op::IdentUnexpected => ready(Err(Fault::invalid("Unexpected arguments: send this request to the collection."))).boxed(),
        Op::Nothing => ready(Err(Fault::new(FaultKind::NotFound, "The resource could not be found."))).boxed(),
        Op::Events => ready(event::post(req)).boxed(),
        Op::Lookup => lookup::lookup(api, req).boxed(),
        Op::Heartbeat => heartbeat::heartbeat(api, req).boxed(),
        Op::ContinueInspection => inspection::continue_inspection(api, req).boxed(),
    }
}
