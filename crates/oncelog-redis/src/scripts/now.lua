-- The server's time; of a cluster, that of the node which has the namespace's own key.
local _, now = clock()
return now
