//! PromQL: text to tree to plan to series, over a Queryable. Pure
