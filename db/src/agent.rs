//! What the ramdisk last said, and its token.

use bessemer_model::{agent::AgentState, clock::Timestamp, ids::NodeId, secret::Secret};

use crate::{
    engine::{
        Conn, Sql,
        row::to_json,
        sql::{args, statements},
    },
    error::Result,
    flow, secret,
    secret_kind::AGENT_TOKEN,
    store::Store,
    types::Write,
};

statements! {
    PUT = Sql::same("INSERT INTO node_agents (node, doc) VALUES ($1, $2) ON CONFLICT (node) DO UPDATE SET doc = excluded.doc");
    GET = Sql::same("SELECT doc FROM node_agents WHERE node = $1");
    DELETE = Sql::same("DELETE FROM node_agents WHERE node = $1");
    // The states of class Waiting; a test compares them with the model.
    TOUCH = Sql::same(
        "UPDATE nodes SET provision_updated_at = $2 WHERE id = $1 \
         AND provision_state IN ('wait call-back', 'clean wait', 'inspect wait', 'rescue wait', 'service wait')",
    );
}

impl Store {
    /// Notes a heartbeat, wakes the provision flow and, where the node waits, moves `provision_updated_at`; one transaction.
    ///
    /// # Errors
    /// [`crate::DbError::NotFound`] without that node.
    pub async fn agent_heartbeat(&self, node: NodeId, agent: AgentState, now: Timestamp) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                c.execute(TOUCH, args![node, now]).await?;
                flow::wake(c, node, now).await?;
                put(c, node, &agent).await
            })
        })
        .await
        .map_err(|e| e.about(node))
    }

    /// What the ramdisk last said.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn agent_get(&self, node: NodeId) -> Result<Option<AgentState>> {
        self.fetch_one(GET, args![node]).await?.map(|r| r.cols().json("agent")).transpose()
    }

    /// Forgets the ramdisk and its token, as after a power-off.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn agent_clear(&self, node: NodeId) -> Result<()> {
        let key = self.key();
        self.write(move |c| {
            Box::pin(async move {
                write(c, node, Write::Delete).await?;
                secret::write(c, &key, node, AGENT_TOKEN, None).await
            })
        })
        .await
    }

    /// Stores the token of a ramdisk; false when one was minted already, which then stays.
    ///
    /// # Errors
    /// [`crate::DbError::NotFound`] without that node.
    pub async fn agent_token_mint(&self, node: NodeId, token: &Secret<String>) -> Result<bool> {
        self.secret_add(node, AGENT_TOKEN, token).await
    }

    /// The token of the running ramdisk.
    ///
    /// # Errors
    /// [`crate::DbError::Unsealable`].
    pub async fn agent_token_get(&self, node: NodeId) -> Result<Option<Secret<String>>> {
        self.secret_get(node, AGENT_TOKEN).await
    }
}

async fn put(c: &mut Conn, node: NodeId, agent: &AgentState) -> Result<()> {
    c.execute(PUT, args![node, to_json("agent", agent)?]).await.map(drop)
}

pub(crate) async fn write(c: &mut Conn, node: NodeId, write: Write<AgentState>) -> Result<()> {
    match write {
        Write::Keep => Ok(()),
        Write::Put(a) => put(c, node, &a).await,
        Write::Delete => c.execute(DELETE, args![node]).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use bessemer_model::state::{ProvisionState, StateClass};

    #[test]
    fn a_heartbeat_touches_exactly_the_waiting_states() {
        for s in ProvisionState::ALL {
            let named = super::TOUCH.sqlite.contains(&format!("'{s}'"));
            assert_eq!(named, s.class() == StateClass::Waiting, "{s}");
        }
    }
}
