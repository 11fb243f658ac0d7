//! Boot plans: what a machine gets when it asks, from any daemon. Written before the machine is powered on.

use bessemer_model::ids::NodeId;

use crate::{
    engine::{
        Conn, Sql,
        sql::{args, statements},
    },
    error::Result,
    store::Store,
    types::BootPlanRow,
};

statements! {
    PUT = Sql::same(
        "INSERT INTO boot_plans (node, nonce, plan) VALUES ($1, $2, $3) \
         ON CONFLICT (node) DO UPDATE SET nonce = excluded.nonce, plan = excluded.plan",
    );
    MAC_PUT = Sql::same("INSERT INTO boot_plan_macs (mac, node) VALUES ($1, $2) ON CONFLICT (mac) DO UPDATE SET node = excluded.node");
    MACS_CLEAR = Sql::same("DELETE FROM boot_plan_macs WHERE node = $1");
    MACS = Sql::same("SELECT mac FROM boot_plan_macs WHERE node = $1 ORDER BY mac");
    BY_NODE = Sql::same("SELECT node, nonce, plan FROM boot_plans WHERE node = $1");
    BY_NONCE = Sql::same("SELECT node, nonce, plan FROM boot_plans WHERE nonce = $1");
    BY_MAC = Sql::same("SELECT p.node, p.nonce, p.plan FROM boot_plan_macs m JOIN boot_plans p ON p.node = m.node WHERE m.mac = $1");
    DELETE = Sql::same("DELETE FROM boot_plans WHERE node = $1");
}

impl Store {
    /// Stores a node's plan, in the place of the one before; its nonce is void from now on.
    ///
    /// # Errors
    /// [`crate::DbError::NotFound`] without that node.
    pub async fn boot_plan_put(&self, plan: BootPlanRow) -> Result<()> {
        let node = plan.node;
        self.write(move |c| Box::pin(async move { put(c, &plan).await })).await.map_err(|e| e.about(node))
    }

    /// A node's plan.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn boot_plan_get_by_node(&self, node: NodeId) -> Result<Option<BootPlanRow>> {
        self.read_plan(BY_NODE, node.to_string()).await
    }

    /// The plan with this nonce.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn boot_plan_get_by_nonce(&self, nonce: &str) -> Result<Option<BootPlanRow>> {
        self.read_plan(BY_NONCE, nonce.to_owned()).await
    }

    /// The plan of the machine with this network card.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn boot_plan_get_by_mac(&self, mac: &str) -> Result<Option<BootPlanRow>> {
        self.read_plan(BY_MAC, mac.to_ascii_lowercase()).await
    }

    /// Removes a node's plan.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn boot_plan_delete(&self, node: NodeId) -> Result<()> {
        self.write(move |c| Box::pin(delete(c, node))).await
    }

    async fn read_plan(&self, sql: Sql, by: String) -> Result<Option<BootPlanRow>> {
        self.read(move |c| {
            Box::pin(async move {
                let Some(row) = c.row(sql, args![by]).await? else {
                    return Ok(None);
                };
                let cols = &mut row.cols();
                let (node, nonce, plan): (NodeId, _, _) = (cols.parsed("node id")?, cols.text()?, cols.json("boot plan")?);
                let macs = c.rows(MACS, args![node]).await?.iter().map(|r| r.cols().text()).collect::<Result<_>>()?;
                Ok(Some(BootPlanRow { node, nonce, macs, plan }))
            })
        })
        .await
    }
}

pub(crate) async fn put(c: &mut Conn, p: &BootPlanRow) -> Result<()> {
    c.execute(PUT, args![p.node, p.nonce.as_str(), p.plan.to_string()]).await?;
    c.execute(MACS_CLEAR, args![p.node]).await?;
    // In one order everywhere, so that two plans that share a card cannot wait for each other.
    let mut macs: Vec<String> = p.macs.iter().map(|m| m.to_ascii_lowercase()).collect();
    macs.sort();
    macs.dedup();
    for m in macs {
        c.execute(MAC_PUT, args![m, p.node]).await?;
    }
    Ok(())
}

pub(crate) async fn delete(c: &mut Conn, node: NodeId) -> Result<()> {
    c.execute(DELETE, args![node]).await.map(drop)
}
