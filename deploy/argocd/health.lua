-- How Argo CD reads the health of a MaxChannel. Goes into argocd-cm as resource.customizations.health.maxchannel.dev_MaxChannel (argocd-cm.yaml has it).
local health = {status = "Progressing", message = "Nobody has looked at this channel yet"}
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    -- Only a person can mend it.
    return {status = "Degraded", message = condition.message}
  end
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = condition.reason == "Suspended" and "Suspended" or "Healthy"
    end
  end
end
return health
