"""Retention: policies, holds, purges, requests, tenants that leave."""
