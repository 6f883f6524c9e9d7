"""What `goku submit` applies: manifests of one stage's work on Kubernetes, made of parameters and nothing else.

What a team sets up once stands in infra/kubernetes; here is what one job adds to it. No command comes from a user: a job names
stages, parameters travel as a ConfigMap, secrets are named and never read.
"""
