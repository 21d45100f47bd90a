"""Who the customers are: features, scores, value, churn, groups by location and behaviour."""
