//! Taking on a verb: state, flow, history and events in one transaction, against the state that the verb was checked in.

use bessemer_model::{flow::Lane, ids::NodeId, state::ProvisionState};

use crate::{
    claim::{diagnose, push_held},
    engine::Build,
    error::Result,
    event, flow, flow_row, history,
    node::spec_write,
    node_row::push_change,
    store::Store,
    types::WorkBegin,
};

impl Store {
    /// Takes on a verb. On return everything is durable; nothing is stored when it fails.
    ///
    /// # Errors
    /// [`crate::DbError::StateChanged`] when the node left the expected state, [`crate::DbError::FlowExists`] when the lane is taken and `replace` is
    /// off, [`crate::DbError::Locked`] when it is on and a living conductor holds the node, [`crate::DbError::RevisionLost`], [`crate::DbError::NotFound`].
    pub async fn work_begin(&self, work: WorkBegin) -> Result<()> {
        let (key, now) = (self.key(), self.now());
        self.write(move |c| {
            Box::pin(async move {
                let WorkBegin { node, expect, change, spec, flow: new, replace, log, history: entries, events } = work;
                let mut b = Build::new(c.engine(), "UPDATE nodes AS n SET updated_at = ");
                b.bind(now);
                push_change(&mut b, &change);
                if replace {
                    b.push(", fence = fence + 1, task_epoch = NULL, task_host = NULL");
                }
                push_where(&mut b, node, expect);
                if replace {
                    b.push(" AND NOT ");
                    push_held(&mut b, now);
                }
                if c.execute_built(b).await? == 0 {
                    return Err(diagnose(c, node, expect).await?);
                }
                if let Some((revision, spec)) = spec {
                    spec_write(c, &key, node, revision, &spec, None, now).await?;
                }
                if replace {
                    flow_row::delete(c, node, new.as_ref().map_or(Lane::Provision, |f| f.kind.lane())).await?;
                }
                if let Some(f) = new
                    && !flow_row::insert(c, &f).await?
                {
                    return Err(flow_row::busy(c, &f).await?);
                }
                flow::log_all(c, &log).await?;
                history::add_all(c, &entries).await?;
                event::add_all(c, &events).await
            })
        })
        .await
    }
}

fn push_where(b: &mut Build, node: NodeId, expect: Option<ProvisionState>) {
    b.push(" WHERE id = ").bind(node);
    if let Some(s) = expect {
        b.push(" AND provision_state = ").bind(s.as_str());
    }
}
