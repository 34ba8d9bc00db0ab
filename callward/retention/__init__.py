"""Retention: policies, holds, purges, subject requests, tenants that leave."""
